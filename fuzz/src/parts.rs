//! The parts in which a stream arrives.

/// Returns the lengths of the parts of a stream of `rest` bytes: `scale` times these lengths, repeated, or one part.
pub(crate) fn lengths(lengths: &[u8], mut rest: usize, scale: usize) -> Vec<usize> {
    // Lengths of zero only would not reach the end.
    if lengths.iter().all(|length| *length == 0) {
        return vec![rest];
    }
    let mut parts = Vec::new();
    for length in lengths.iter().cycle() {
        let length = rest.min(usize::from(*length) * scale);
        parts.push(length);
        rest -= length;
        if rest == 0 {
            break;
        }
    }
    parts
}
