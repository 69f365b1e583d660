//! Throughput of the two loops over the payload of a WebSocket message: the mask and the check of UTF-8, beside the
//! bandwidth of the memory.
//!
//! `copy` copies as many bytes, and `write` overwrites them: the loops cannot be faster than these. A payload of 64 KiB is
//! in a processor's cache, one of 64 MiB is in memory.
//!
//! ```text
//! cargo bench --bench payload
//! ```

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// The source file of the crate, unchanged.
#[path = "../src/websocket/mask.rs"]
mod mask;

fn payload(criterion: &mut Criterion) {
    for (name, length) in [("64 KiB", 64 * 1024), ("64 MiB", 64 * 1024 * 1024)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(length as u64));
        let mut bytes = vec![b'a'; length];
        let mut copy = vec![0; length];
        group.bench_function("copy", |bencher| {
            bencher.iter(|| black_box(&mut copy[..]).copy_from_slice(black_box(&bytes)));
        });
        group.bench_function("write", |bencher| {
            bencher.iter(|| black_box(&mut copy[..]).fill(black_box(7)));
        });
        group.bench_function("unmask", |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut bytes), black_box([1, 2, 3, 4]), 1));
        });
        let ascii = "a".repeat(length);
        let german = "Größe äöü und so weiter, ".repeat(length / 29);
        let russian = "я".repeat(length / 2);
        for (name, text) in [
            ("UTF-8, ASCII", ascii),
            ("UTF-8, German", german),
            ("UTF-8, Russian", russian),
        ] {
            let bytes = text.as_bytes();
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(name, |bencher| {
                bencher.iter(|| std::str::from_utf8(black_box(bytes)).is_ok());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, payload);
criterion_main!(benches);
