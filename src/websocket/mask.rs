//! The mask of a frame (RFC 6455 §5.3).

/// The number of bytes that one step of the loop unmasks: one vector register.
const STEP: usize = 32;

/// Masks or unmasks the bytes of a payload that begin at `offset`.
pub(super) fn apply(bytes: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let masks: [u8; STEP] = std::array::from_fn(|at| mask[at % 4]);
    let mut steps = bytes.chunks_exact_mut(STEP);
    for step in &mut steps {
        for (byte, mask) in step.iter_mut().zip(masks) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in steps.into_remainder().iter_mut().zip(masks) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn each_byte_has_the_mask_of_its_offset() {
        let mask = [1, 20, 30, 255];
        for length in [0, 1, 3, 4, 31, 32, 33, 100] {
            for offset in 0..9 {
                let mut bytes: Vec<_> = (0..length as u8).collect();
                apply(&mut bytes, mask, offset);
                for (at, byte) in bytes.into_iter().enumerate() {
                    assert_eq!(
                        byte,
                        at as u8 ^ mask[(offset + at) % 4],
                        "{length} {offset} {at}"
                    );
                }
            }
        }
    }
}
