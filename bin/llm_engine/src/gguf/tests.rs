//! The GGUF reader against whole, cut, flipped and absurd files.

use std::io::Cursor;

use super::*;
use crate::testing::gguf_writer::{F32, GgufWriter, Q8_0};

/// What the reader says about these bytes; one line.
fn refusal(file: &[u8]) -> String {
    match Gguf::read(Cursor::new(file)) {
        Ok(_) => panic!("was accepted"),
        Err(error) => {
            let text = format!("{error:#}");
            assert!(!text.contains('\n'), "{text:?}");
            text
        }
    }
}

fn small() -> GgufWriter {
    let mut file = GgufWriter::default();
    file.text("general.architecture", "llama")
        .u32("count", 7)
        .f32("ratio", 0.5)
        .bool("yes", true)
        .texts("words", &["a", "", "b c"])
        .i32s("numbers", &[1, -2])
        .f32s("floats", &[0.25])
        .tensor("one", &[2, 3], F32, (0..24).collect())
        .tensor("two", &[1, 32], Q8_0, vec![9; 34]);
    file
}

#[test]
fn what_was_written_is_read_back() {
    for version in [2, 3] {
        let file = GgufWriter { version, ..small() }.build();
        let mut gguf = Gguf::read(Cursor::new(file)).unwrap();
        let metadata = &gguf.metadata;
        assert_eq!(
            metadata.text("general.architecture").unwrap(),
            Some("llama")
        );
        assert_eq!(metadata.required_u64("count").unwrap(), 7);
        assert_eq!(metadata.f64("ratio").unwrap(), Some(0.5));
        assert_eq!(metadata.bool("yes").unwrap(), Some(true));
        let numbers = metadata.integers("numbers").unwrap().unwrap();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [1, -2]);
        assert_eq!(metadata.floats("floats").unwrap(), Some([0.25].as_slice()));
        let words = metadata.texts("words").unwrap().unwrap();
        let words: Vec<_> = words.iter().collect();
        assert_eq!(words, [b"a".as_slice(), b"", b"b c"]);
        assert_eq!(metadata.u64("absent").unwrap(), None);

        let one = gguf.tensor("one").unwrap().clone();
        assert_eq!(
            (one.kind, one.shape.as_slice()),
            (TensorType::F32, [2, 3].as_slice())
        );
        assert_eq!(
            gguf.read_tensor(&one).unwrap(),
            (0..24).collect::<Vec<u8>>()
        );
        let two = gguf.tensor("two").unwrap().clone();
        assert_eq!(gguf.read_tensor(&two).unwrap(), [9; 34]);
    }
}

#[test]
fn values_of_another_type_are_named() {
    let gguf = Gguf::read(Cursor::new(small().build())).unwrap();
    let error = gguf.metadata.u64("ratio").unwrap_err().to_string();
    assert!(error.contains("`ratio` is 0.5"), "{error}");
    assert!(gguf.metadata.text("words").is_err());
    assert!(gguf.metadata.texts("numbers").is_err());
    assert!(
        gguf.metadata
            .required_u64("absent")
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
}

#[test]
fn other_files_are_told_apart() {
    assert!(refusal(b"").contains("it is empty"));
    assert!(refusal(b"Hello, world").contains("not a GGUF file (it starts with `Hell`"));
    assert!(refusal(b"G\n").contains(r"it starts with `G\n`"));
    let old = GgufWriter {
        version: 1,
        ..small()
    }
    .build();
    assert!(refusal(&old).contains("version 1 is not supported"));
    let foreign = GgufWriter {
        version: 3_u32.swap_bytes(),
        ..small()
    }
    .build();
    assert!(refusal(&foreign).contains("big-endian"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = small().build();
    for length in 0..file.len() {
        refusal(&file[..length]);
    }
    let cut = refusal(&file[..file.len() - 1]);
    let expected = format!(
        "truncated: tensor `two` ends at byte {}, but the file has {}",
        file.len(),
        file.len() - 1
    );
    assert_eq!(cut, expected);
}

#[test]
fn absurd_tensors_are_refused_by_name() {
    let with = |change: fn(&mut GgufWriter)| {
        let mut file = small();
        change(&mut file);
        refusal(&file.build())
    };
    assert!(with(|file| file.tensors[0].dimensions = vec![1 << 40, 1 << 40]).contains("absurd"));
    assert!(with(|file| file.tensors[0].dimensions = vec![u64::MAX; 4]).contains("absurd"));
    assert!(with(|file| file.tensors[0].dimensions = vec![]).contains("`one`: has 0 dimensions"));
    assert!(with(|file| file.tensors[0].dimensions = vec![1; 5]).contains("has 5 dimensions"));
    assert!(with(|file| file.tensors[0].dimensions = vec![0, 3]).contains("empty dimension"));
    assert!(with(|file| file.tensors[1].dimensions = vec![31]).contains("rows of 31 numbers"));
    assert!(with(|file| file.tensors[0].kind = 20).contains("unsupported quantisation IQ4_NL"));
    assert!(with(|file| file.tensors[0].kind = 4).contains("has the number 4"));
    assert!(with(|file| file.tensors[1].offset = Some(7)).contains("multiple of the alignment"));
    assert!(with(|file| file.tensors[1].offset = Some(0)).contains("overlap"));
    assert!(with(|file| file.tensors[1].offset = Some(1 << 62)).contains("truncated"));
    assert!(with(|file| file.tensors[1].offset = Some(u64::MAX - 31)).contains("absurd offset"));
    assert!(with(|file| file.tensors[1].name = "one".to_owned()).contains("there twice"));
}

#[test]
fn tensors_that_overlap_in_part_are_refused() {
    let mut file = small();
    file.tensors[0] = crate::testing::gguf_writer::Tensor {
        dimensions: vec![16],
        data: vec![0; 64],
        ..file.tensors[0].clone()
    };
    file.tensors[1].offset = Some(32);
    assert!(refusal(&file.build()).contains("tensors `one` and `two` overlap"));
}

#[test]
fn absurd_metadata_is_refused() {
    let with = |change: fn(&mut GgufWriter)| {
        let mut file = small();
        change(&mut file);
        refusal(&file.build())
    };
    let list =
        |kind: u32, count: u64| [kind.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
    let array = |kind, count| {
        let mut file = small();
        file.entry("list", 9, list(kind, count));
        refusal(&file.build())
    };
    for kind in [0, 4, 8, 10, 12] {
        assert!(array(kind, u64::MAX).contains("`list`: truncated or damaged: a list needs"));
        assert!(array(kind, 1 << 32).contains("truncated or damaged"));
    }
    assert!(array(9, 1).contains("a list of lists"));
    assert!(array(13, 1).contains("no value type has the number 13"));
    assert!(
        with(|file| {
            file.entry("x", 8, u64::MAX.to_le_bytes().to_vec());
        })
        .contains("a string needs")
    );
    assert!(
        with(|file| {
            file.entry("x", 7, vec![2]);
        })
        .contains("neither true nor false")
    );
    assert!(
        with(|file| {
            file.duplicate("count");
        })
        .contains("`count` is there twice")
    );
    for alignment in [0, 3, 4, 1 << 30] {
        let mut file = small();
        file.u32("general.alignment", alignment);
        assert!(refusal(&file.build()).contains("general.alignment"));
    }
}

#[test]
fn absurd_counts_are_refused() {
    for (at, what) in [(8, "tensors"), (16, "metadata entries")] {
        for count in [u64::MAX, 1 << 40, 1 << 20] {
            let mut file = small().build();
            file[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let text = refusal(&file);
            assert!(text.contains(&format!("{count} {what}")), "{text}");
        }
    }
}

#[test]
fn another_alignment_is_followed() {
    let mut file = GgufWriter {
        alignment: 128,
        ..small()
    };
    file.u32("general.alignment", 128);
    let mut gguf = Gguf::read(Cursor::new(file.build())).unwrap();
    let two = gguf.tensor("two").unwrap().clone();
    assert_eq!(gguf.read_tensor(&two).unwrap(), [9; 34]);
}

#[test]
fn integers_of_every_width_keep_their_value() {
    let list = |kind: u32, values: &[u8]| {
        let count = values.len() as u64 / [1, 1, 2, 2, 4, 4, 0, 0, 0, 0, 8, 8][kind as usize];
        [&kind.to_le_bytes(), &count.to_le_bytes()[..], values].concat()
    };
    let read = |kind, values: &[u8]| -> Result<Vec<i64>> {
        let mut file = small();
        file.entry("list", 9, list(kind, values));
        let gguf = Gguf::read(Cursor::new(file.build()))?;
        let integers = gguf.metadata.integers("list")?.unwrap().iter().collect();
        Ok(integers)
    };
    let ones = [0xFF; 8];
    assert_eq!(read(0, &ones[..2]).unwrap(), [255, 255]);
    assert_eq!(read(1, &ones[..2]).unwrap(), [-1, -1]);
    assert_eq!(read(2, &ones[..4]).unwrap(), [65_535, 65_535]);
    assert_eq!(read(3, &[0xFE, 0xFF]).unwrap(), [-2]);
    assert_eq!(read(4, &ones[..4]).unwrap(), [i64::from(u32::MAX)]);
    assert_eq!(read(5, &ones[..4]).unwrap(), [-1]);
    assert_eq!(read(11, &ones).unwrap(), [-1]);
    let error = format!("{:#}", read(10, &ones).unwrap_err());
    assert!(error.contains("beyond 64 signed bits"), "{error}");
}

#[test]
fn a_part_of_a_split_model_is_refused_as_what_it_is() {
    let mut file = small();
    file.entry("split.no", 2, 0_u16.to_le_bytes().to_vec());
    file.entry("split.count", 2, 3_u16.to_le_bytes().to_vec());
    assert!(refusal(&file.build()).contains("is part 1 of 3 of a split model"));
    file.entry("split.count", 2, 1_u16.to_le_bytes().to_vec());
    assert!(Gguf::read(Cursor::new(file.build())).is_ok());
}

/// Whoever opens a pipe waits for somebody to write.
#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_refused_at_once() {
    let error = Gguf::open(Path::new("/dev/null")).unwrap_err();
    assert!(
        format!("{error:#}").contains("is not a regular file"),
        "{error:#}"
    );
    let name = format!("llm-worker-rbee-{}-pipe", std::process::id());
    let pipe = std::env::temp_dir().join(name);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is there").success());
    let error = Gguf::open(&pipe).unwrap_err();
    std::fs::remove_file(&pipe).expect("it was just made");
    assert!(
        format!("{error:#}").contains("is not a regular file"),
        "{error:#}"
    );
}
