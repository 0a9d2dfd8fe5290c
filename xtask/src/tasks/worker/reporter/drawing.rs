//! Drawings as inline SVG, which needs no script and no network. Pure.

mod ecdf;
pub mod load;
pub mod timeline;

/// The width of every drawing in its own units; the page scales it.
pub const WIDTH: f64 = 1000.0;

/// A drawing.
#[derive(Debug)]
pub struct Drawing {
    /// Stable name.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// Its height, in units of [`WIDTH`].
    pub height: f64,
    /// The elements inside of `<svg>`, in which every text is harmless already.
    pub svg: String,
    /// The class of each colour, and what it stands for.
    pub legend: &'static [(&'static str, &'static str)],
}
