//! Memory for weights: read in full for every token, so worth having in huge pages.
//!
//! Many matrices are smaller than a huge page, so they share larger pieces, from which memory is
//! given out one after the other. A piece is freed with the last of what lies in it.

#![allow(unsafe_code, reason = "memory with an alignment that no safe type has")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// As large as a huge page.
const HUGE_PAGE: usize = 2 * 1024 * 1024;
/// Memory that is taken from the system at once.
const PIECE: usize = 16 * HUGE_PAGE;
/// Regions start at cache lines.
const LINE: usize = 64;

/// Memory from the system, uninitialised.
struct Piece {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a piece itself is never read or written; regions of it belong to whoever has them.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let layout = Layout::from_size_align(bytes, HUGE_PAGE).expect("less than all memory");
        // SAFETY: `bytes` isn't zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        // SAFETY: the memory is ours. This changes what it is made of, not what is in it.
        unsafe {
            // A system without huge pages does without.
            let _ = rustix::mm::madvise(
                start.as_ptr().cast(),
                bytes,
                rustix::mm::Advice::LinuxHugepage,
            );
        }
        Self { start, layout }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and no region of it is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The piece that memory is given out from, and how much of it has been.
static CURRENT: Mutex<(Weak<Piece>, usize)> = Mutex::new((Weak::new(), 0));

/// Bytes of one's own, aligned to cache lines.
pub struct Region {
    piece: Arc<Piece>,
    start: usize,
    length: usize,
}

impl Region {
    /// `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (piece, used) = &mut *current;
        let needed = length.next_multiple_of(LINE);
        let room = |piece: &Arc<Piece>| piece.layout.size() - *used >= needed;
        let shared = match piece.upgrade().filter(room) {
            Some(shared) => shared,
            None => {
                let new = Arc::new(Piece::new(needed.max(PIECE)));
                (*piece, *used) = (Arc::downgrade(&new), 0);
                new
            }
        };
        let region = Self {
            piece: shared,
            start: *used,
            length,
        };
        *used += needed;
        drop(current);
        // SAFETY: these bytes lie in the piece and have been given to nobody else.
        unsafe { region.pointer().write_bytes(0, length) };
        region
    }

    fn pointer(&self) -> *mut u8 {
        self.piece.start.as_ptr().wrapping_add(self.start)
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the region's bytes are initialised, and its own.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.length) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and it is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_aligned_and_apart() {
        let lengths = [0, 1, 63, 64, 65, PIECE - 100, 100, 3 * PIECE, 5];
        let mut regions: Vec<_> = lengths.map(Region::zeroed).into();
        for (number, region) in regions.iter_mut().enumerate() {
            assert!(region.iter().all(|byte| *byte == 0));
            assert_eq!(region.pointer() as usize % LINE, 0);
            region.fill(number as u8 + 1);
        }
        for (number, region) in regions.iter().enumerate() {
            assert_eq!(region.len(), lengths[number]);
            assert!(region.iter().all(|byte| *byte == number as u8 + 1));
        }
    }
}
