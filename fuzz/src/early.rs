//! Bytes after a request head, in segments of any length: U9, and the same through a relay.

use crate::wire;
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower_upgrade::{Session, UpgradeLayer, Upgraded, copy, handler_fn, tunnel::Relay};

pub fn run(data: &[u8]) {
    if let Ok(case) = Case::new(Unstructured::new(data)) {
        case.check();
    }
}

/// The echo implementation.
#[derive(Clone, Copy)]
enum Echo {
    /// Copies with a buffer of this size.
    ByHand(usize),
    Copy,
    Relay,
    /// Echoes behind a relay, over a pipe of this size.
    BehindRelay(usize),
}

struct Case {
    echo: Echo,
    /// Takes the session's IO apart first, and reassembles it.
    is_taken_apart: bool,
    is_connect: bool,
    head: Vec<u8>,
    early: Vec<u8>,
    /// The positions where segments end, in ascending order.
    cuts: Vec<usize>,
}

impl Case {
    fn new(mut u: Unstructured) -> Result<Self> {
        let echo = match u.int_in_range(0..=3)? {
            0 => Echo::ByHand(usize::from(u.arbitrary::<u8>()?) + 1),
            1 => Echo::Copy,
            2 => Echo::Relay,
            _ => Echo::BehindRelay(usize::from(u.arbitrary::<u16>()?) + 1),
        };
        let is_taken_apart = u.arbitrary()?;
        let is_connect = u.arbitrary()?;
        let head = match is_connect {
            true => "CONNECT host:80 HTTP/1.1\r\nHost: host\r\n\r\n",
            false => "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        };
        // Larger than one read, and without repeating content.
        let more = usize::from(u.arbitrary::<u16>()?) * 2;
        let more = match echo {
            // Many bytes take long in small steps.
            Echo::ByHand(size) | Echo::BehindRelay(size) => more.min(64 * size),
            Echo::Copy | Echo::Relay => more,
        };
        let mut cuts = Vec::new();
        for _ in 0..u.int_in_range(0..=12)? {
            cuts.push(usize::from(u.arbitrary::<u16>()?) * usize::from(u.int_in_range(1u8..=3)?));
        }
        let mut early = u.take_rest().to_vec();
        early.extend((0..more).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8));
        let length = head.len() + early.len();
        cuts.iter_mut().for_each(|cut| *cut %= length + 1);
        cuts.sort_unstable();
        Ok(Self {
            echo,
            is_taken_apart,
            is_connect,
            head: head.into(),
            early,
            cuts,
        })
    }

    fn check(&self) {
        let (echo, is_taken_apart) = (self.echo, self.is_taken_apart);
        let handler = handler_fn(move |session: Session| async move {
            let mut io = session.into_io();
            if is_taken_apart {
                let parts = io.downcast::<DuplexStream>();
                io = Upgraded::from_parts(parts.expect("the IO of the server"));
            }
            match echo {
                Echo::ByHand(size) => {
                    let mut buffer = vec![0; size];
                    loop {
                        let read = io.read(&mut buffer).await?;
                        if read == 0 {
                            break;
                        }
                        io.write_all(&buffer[..read]).await?;
                    }
                }
                Echo::Copy => {
                    let (mut reader, mut writer) = tokio::io::split(io);
                    copy(&mut reader, &mut writer).await?;
                }
                Echo::Relay => {
                    Relay::echo(io).await.into_result()?;
                }
                Echo::BehindRelay(size) => {
                    let (near, far) = tokio::io::duplex(size);
                    let far = tokio::spawn(async move {
                        let (mut reader, mut writer) = tokio::io::split(far);
                        tokio::io::copy(&mut reader, &mut writer).await?;
                        writer.shutdown().await
                    });
                    let relayed = Relay::new(io, near).await;
                    let (there, back) = relayed.into_result()?;
                    assert_eq!(there, back);
                    far.await??;
                }
            }
            Ok(())
        });
        let layer = UpgradeLayer::new()
            .protocol("echo", handler.clone())
            .connect(handler);

        let sent = [&*self.head, &*self.early].concat();
        let mut segments = Vec::new();
        let mut from = 0;
        for cut in self.cuts.iter().copied().chain([sent.len()]) {
            segments.push(&sent[from..cut]);
            from = cut;
        }
        let mut read = Bytes::from(wire::exchange(layer, &segments));
        let head = wire::Head::take(&mut read).expect("an answer");
        head.assert_upgraded((!self.is_connect).then_some("echo"));
        let same = read.iter().zip(&self.early).take_while(|(a, b)| a == b);
        let same = same.count();
        assert!(
            read == self.early,
            "{} bytes of {}, of which {same} are the same",
            read.len(),
            self.early.len()
        );
    }
}
