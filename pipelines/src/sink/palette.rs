//! Colours that people with colour-blindness can tell apart: those of Okabe and Ito (<https://jfly.uni-koeln.de/color/>).

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// Vermilion, sky blue, yellow, bluish green, reddish purple, blue, orange.
const COLOURS: [Rgb; 7] = [
    [213, 94, 0],
    [86, 180, 233],
    [240, 228, 66],
    [0, 158, 115],
    [204, 121, 167],
    [0, 114, 178],
    [230, 159, 0],
];

/// The colour of a pixel's class; class 0, the background, has none.
pub(super) fn of_class(class: usize) -> Rgb {
    COLOURS[class.saturating_sub(1) % COLOURS.len()]
}

/// The colour of a label of a class or box.
pub(crate) fn of_label(label: usize) -> Rgb {
    // Light ones first: they are drawn on dark plates and pictures.
    COLOURS[[1, 2, 0, 4, 3, 6, 5][label % COLOURS.len()]]
}

/// The colour of a box's label; never that of the first class of pixels, which lie in the boxes.
pub(super) fn of_box(label: usize) -> Rgb {
    COLOURS[[1, 2, 3, 4, 6, 5][label % 6]]
}
