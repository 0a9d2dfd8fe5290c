//! The alphabet in which byte-level vocabularies are written: one printable character for each
//! byte, so that no token text holds a space or a control character.

/// The bytes that a token text of a byte-level vocabulary stands for; `None` if it holds a
/// character from outside the alphabet, as special tokens may.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text)
        .ok()?
        .chars()
        .map(byte_of)
        .collect()
}

/// Printable Latin-1 characters stand for themselves; all other bytes follow from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut bytes: Vec<_> = ('\0'..'\u{200}').filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
    }

    #[test]
    fn the_known_characters_stand_for_space_and_newline() {
        assert_eq!(decode("Ġa".as_bytes()), Some(b" a".to_vec()));
        assert_eq!(decode("Ċ".as_bytes()), Some(b"\n".to_vec()));
        assert_eq!(decode("é".as_bytes()), Some(vec![0xE9]));
        assert_eq!(decode(b"a b"), None);
    }
}
