//! Checks that foreign text is valid UTF-8, because Arrow trusts its producer.

use arrow_array::{Array, GenericStringArray, OffsetSizeTrait, StringViewArray};

/// Returns the first row whose bytes are not valid UTF-8.
pub(super) fn first_broken<O: OffsetSizeTrait>(texts: &GenericStringArray<O>) -> Option<usize> {
    let offsets = texts.offsets();
    let range = |start: O, end: O| texts.values().as_slice().get(start.as_usize()..end.as_usize());
    let all = offsets.first().zip(offsets.last()).and_then(|(first, last)| range(*first, *last));
    let mut pairs = offsets.iter().zip(offsets.iter().skip(1));
    // A valid text as a whole may be split inside a character. A null cell may contain any bytes, though.
    let first = offsets.first().map_or(0, |first| first.as_usize());
    let is_whole = |text: &str| {
        let is_cut = |offset: &O| text.is_char_boundary(offset.as_usize().wrapping_sub(first));
        pairs.clone().all(|(start, end)| start <= end) && (text.is_ascii() || offsets.iter().all(is_cut))
    };
    if all.and_then(|bytes| std::str::from_utf8(bytes).ok()).is_some_and(is_whole) {
        return None;
    }
    let is_text = |(start, end): (&O, &O)| {
        start <= end && range(*start, *end).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
    };
    let mut row = 0;
    pairs.find_map(|pair| {
        let here = row;
        row += 1;
        (texts.is_valid(here) && !is_text(pair)).then_some(here)
    })
}

/// The same for views.
pub(super) fn first_broken_view(texts: &StringViewArray) -> Option<usize> {
    const INLINE: u128 = 12;
    const HIGH_BITS: u128 = 0x8080_8080_8080_8080_8080_8080_0000_0000;
    let buffers = texts.data_buffers();
    let is_text = |view: u128| {
        let length = view & 0xffff_ffff;
        if length <= INLINE {
            let bytes = view.to_le_bytes();
            let Some(bytes) = usize::try_from(length).ok().and_then(|length| bytes.get(4..4 + length)) else {
                return false;
            };
            return view & HIGH_BITS == 0 || std::str::from_utf8(bytes).is_ok();
        }
        let part = |shift: u32| usize::try_from((view >> shift) & 0xffff_ffff).unwrap_or(usize::MAX);
        let bytes = buffers.get(part(64)).and_then(|buffer| {
            let start = part(96);
            buffer.as_slice().get(start..start.saturating_add(part(0)))
        });
        bytes.is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
    };
    let mut views = texts.views().iter().enumerate();
    views.find(|(row, view)| texts.is_valid(*row) && !is_text(**view)).map(|(row, _)| row)
}
