//! What every kind of x86-64 processor has.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Brings the line at `address`, which may be any, into the nearest cache.
#[inline(always)]
pub fn prefetch(address: *const u8) {
    // SAFETY: a hint; no address is wrong.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

/// The same, for a line that will be written.
#[inline(always)]
pub fn prefetch_to_write(address: *const u8) {
    // The compiler's own makes it a plain prefetch, which a write then has to ask again after.
    // SAFETY: a hint, which processors that don't know it pass over; no address is wrong.
    unsafe {
        asm!(
            "prefetchw [{}]",
            in(reg) address,
            options(readonly, nostack, preserves_flags)
        )
    }
}
