//! How a secret looks inside of base64 text. Pure.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters that stand for nothing but the secret, whatever comes before and after it: three
/// bytes are four characters, so that there are three of them in each alphabet.
pub fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms: Vec<Vec<u8>> = [STANDARD, FOR_URLS]
        .iter()
        .flat_map(|alphabet| (0..3).map(|before| form(secret, before, alphabet)))
        .collect();
    forms.sort();
    forms.dedup();
    forms
}

/// The form behind so many other bytes.
fn form(secret: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret);
    let whole = encode(&bytes, alphabet);
    // Characters of six bits: the first and the last may have bits of somebody else.
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    whole[first..last].to_vec()
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let characters = |three: &[u8]| {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift & 63) as usize])
    };
    bytes.chunks(3).flat_map(characters).collect()
}

/// Base64 as most write it.
pub fn padded(bytes: &[u8]) -> String {
    let mut whole = encode(bytes, STANDARD);
    let characters = (bytes.len() * 8).div_ceil(6);
    whole.iter_mut().skip(characters).for_each(|c| *c = b'=');
    whole.into_iter().map(char::from).collect()
}

/// The same without padding.
#[cfg(test)]
pub fn encode_standard(bytes: &[u8]) -> Vec<u8> {
    let mut whole = encode(bytes, STANDARD);
    whole.truncate((bytes.len() * 8).div_ceil(6));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_behind_any_number_of_bytes() {
        // "hf_abcdef", alone and with one, two and three letters before it and one behind.
        for text in [
            "aGZfYWJjZGVm",
            "eGhmX2FiY2RlZng=",
            "eHhoZl9hYmNkZWZ4",
            "eHh4aGZfYWJjZGVmeA==",
        ] {
            let forms = forms(b"hf_abcdef").into_iter();
            let forms: Vec<_> = forms.map(|form| String::from_utf8(form).unwrap()).collect();
            assert!(
                forms.iter().any(|form| text.contains(form.as_str())),
                "{text}: {forms:?}"
            );
        }
    }

    #[test]
    fn what_is_short_of_three_bytes_is_padded() {
        let shown = ["f", "fo", "foo"].map(|text| padded(text.as_bytes()));
        assert_eq!(shown, ["Zg==", "Zm8=", "Zm9v"]);
    }

    #[test]
    fn both_alphabets_are_known() {
        let forms = forms(&[0xff; 6]);
        assert!(forms.contains(&b"////////".to_vec()), "{forms:?}");
        assert!(forms.contains(&b"________".to_vec()), "{forms:?}");
    }
}
