//! A damaged GGUF file must not make the reader ask for memory that the file's size doesn't
//! justify: whatever a length in it claims, no allocation is larger than the file.
#![allow(unsafe_code, reason = "an allocator that watches is unsafe by nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;

use llm_engine::gguf::Gguf;

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Remembers the largest request of each thread.
struct Watching;

fn note(bytes: usize) {
    // A thread that is ending has nothing to remember with.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn largest_allocation(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}

#[test]
fn the_watching_allocator_sees_an_allocation() {
    let seen = largest_allocation(|| drop(std::hint::black_box(vec![0_u8; 123_456])));
    assert!(seen >= 123_456);
}

#[test]
fn no_length_in_a_file_makes_an_allocation_beyond_the_file() {
    let mut writer = gguf_writer::llama(gguf_writer::Q4_0);
    writer.tensors.truncate(3);
    let sound = writer.build();
    let tables = sound.len()
        - writer
            .tensors
            .iter()
            .map(|tensor| tensor.data.len())
            .sum::<usize>();
    for at in 0..tables - 8 {
        for number in [u64::MAX, 1 << 40, 1 << 31, 1 << 24] {
            let mut file = sound.clone();
            file[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let size = file.len();
            let mut reader = Some(Cursor::new(file));
            let seen = largest_allocation(|| {
                let Ok(mut gguf) = Gguf::read(reader.take().expect("used once")) else {
                    return;
                };
                let tensors: Vec<_> = gguf.tensors().map(|(_, info)| info.clone()).collect();
                for info in tensors {
                    let _ = gguf.read_tensor(&info);
                }
            });
            assert!(
                seen <= size,
                "{number} at byte {at}: {seen} bytes for a file of {size}"
            );
        }
    }
}

#[test]
fn lists_of_small_things_take_no_more_than_they_have_in_the_file() {
    const COUNT: u64 = 100_000;
    let list = |kind: u32, bytes_each: usize| {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(COUNT.to_le_bytes());
        value.resize(value.len() + COUNT as usize * bytes_each, 0);
        let mut writer = gguf_writer::GgufWriter::default();
        writer.entry("list", 9, value);
        writer.build()
    };
    // One byte each: unsigned, signed, truth values; two; then texts, all of them empty.
    for (kind, bytes_each) in [
        (0, 1),
        (1, 1),
        (7, 1),
        (2, 2),
        (3, 2),
        (6, 4),
        (8, 8),
        (12, 8),
    ] {
        let file = list(kind, bytes_each);
        let size = file.len();
        let mut reader = Some(Cursor::new(file));
        let seen = largest_allocation(|| {
            Gguf::read(reader.take().expect("used once")).expect("the file is sound");
        });
        assert!(
            (size / 4..=size).contains(&seen),
            "type {kind}: {seen} bytes for a file of {size}"
        );
    }
}

#[test]
fn many_small_entries_and_tensors_do_not_add_up_to_one_large_allocation() {
    let mut writer = gguf_writer::GgufWriter::default();
    for number in 0..20_000 {
        writer
            .entries
            .push((format!("{number}"), vec![0, 0, 0, 0, 1]));
        writer.tensor(&format!("{number}"), &[1], 0, vec![0; 4]);
    }
    let file = writer.build();
    let size = file.len();
    let mut reader = Some(Cursor::new(file));
    let seen = largest_allocation(|| {
        Gguf::read(reader.take().expect("used once")).expect("the file is sound");
    });
    assert!(seen <= size / 4, "{seen} bytes for a file of {size}");
}
