//! The mask of a frame (RFC 6455 §5.3).

/// Masks or unmasks the bytes of a payload that begin at `offset`.
pub(super) fn apply(bytes: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001;
    // Words, which the compiler combines into vectors: fast also without optimization.
    let mut words = bytes.chunks_exact_mut(8);
    for bytes in &mut words {
        if let Ok(bytes) = <&mut [u8; 8]>::try_from(bytes) {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_byte_has_the_mask_of_its_offset() {
        let mask = [1, 20, 30, 255];
        for length in [0, 1, 3, 4, 31, 32, 33, 100] {
            for offset in 0..9 {
                let mut bytes: Vec<_> = (0..length as u8).collect();
                super::apply(&mut bytes, mask, offset);
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
