//! A network of nodes that all reach each other, each through a link of its own, up and down.
//!
//! Streams share links in the max-min fair way: rates grow alike until a link is full; the streams in
//! it keep their rate, the others go on growing. Sizes below `SMALL_BYTES` take part in nothing: they
//! take their latency and their time on an empty link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Below this a stream does not compete: it is over before it could be noticed.
const SMALL_BYTES: u64 = 64 << 10;

/// What the nodes are joined by.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    pub bytes_per_us: f64,
    pub latency_us: u64,
}

impl Links {
    /// The time until the last byte is there if nothing else is on the way.
    pub fn alone_us(&self, bytes: u64) -> u64 {
        self.latency_us + (bytes as f64 / self.bytes_per_us).ceil() as u64
    }

    /// True if such a message is not worth a stream.
    pub fn is_small(&self, bytes: u64) -> bool {
        bytes < SMALL_BYTES
    }
}

/// Streams under way. `T` tells whose they are.
pub struct Network<T> {
    links: Links,
    streams: Vec<Stream<T>>,
    now_us: u64,
    /// False if a stream came or went since rates were shared out.
    is_shared_out: bool,
}

struct Stream<T> {
    from: usize,
    to: usize,
    left_bytes: f64,
    rate: f64,
    of: T,
}

impl<T> Network<T> {
    pub fn new(links: Links) -> Self {
        Network { links, streams: Vec::new(), now_us: 0, is_shared_out: true }
    }

    /// Begins a stream; time may not have passed since the last `take_ended`.
    pub fn begin(&mut self, now_us: u64, from: usize, to: usize, bytes: u64, of: T) {
        self.advance(now_us);
        self.streams.push(Stream { from, to, left_bytes: bytes as f64, rate: 0.0, of });
        self.is_shared_out = false;
    }

    /// When the next stream ends, if nothing changes.
    pub fn next_end_us(&mut self) -> Option<u64> {
        self.share_out();
        let left_us = |stream: &Stream<T>| (stream.left_bytes / stream.rate).max(0.0);
        let soonest = self.streams.iter().map(left_us).min_by(f64::total_cmp)?;
        Some(self.now_us + (soonest.ceil() as u64).max(1))
    }

    /// Streams that have ended by now.
    pub fn take_ended(&mut self, now_us: u64) -> Vec<T> {
        self.advance(now_us);
        let mut ended = Vec::new();
        let mut place = 0;
        while place < self.streams.len() {
            match self.streams[place].left_bytes <= 0.5 {
                // Kept in order, so that the same run always does the same.
                true => ended.push(self.streams.remove(place).of),
                false => place += 1,
            }
        }
        self.is_shared_out &= ended.is_empty();
        ended
    }

    fn advance(&mut self, now_us: u64) {
        if now_us == self.now_us {
            return;
        }
        self.share_out();
        let passed = (now_us - self.now_us) as f64;
        self.streams.iter_mut().for_each(|stream| stream.left_bytes -= stream.rate * passed);
        self.now_us = now_us;
    }

    /// Progressive filling: the link with the least for each of its streams settles these first.
    fn share_out(&mut self) {
        if std::mem::replace(&mut self.is_shared_out, true) {
            return;
        }
        let nodes = self.streams.iter().map(|stream| stream.from.max(stream.to) + 1).max().unwrap_or(0);
        // Link `n` leads up from node `n`, link `nodes + n` down to it.
        let ends = |stream: &Stream<T>| [stream.from, nodes + stream.to];
        let mut links: Vec<Link> = vec![Link::default(); 2 * nodes];
        for (number, stream) in self.streams.iter_mut().enumerate() {
            stream.rate = 0.0;
            ends(stream).into_iter().for_each(|link| links[link].streams.push(number));
        }
        for link in &mut links {
            (link.free, link.open) = (self.links.bytes_per_us, link.streams.len());
        }
        let used = links.iter().enumerate().filter(|(_, link)| link.open > 0);
        let mut shares: BinaryHeap<Reverse<(u64, usize)>> =
            used.map(|(number, link)| Reverse((link.share(), number))).collect();
        while let Some(Reverse((share, number))) = shares.pop() {
            if links[number].open == 0 || links[number].share() != share {
                continue;
            }
            let rate = f64::from_bits(share);
            for stream in std::mem::take(&mut links[number].streams) {
                if self.streams[stream].rate > 0.0 {
                    continue;
                }
                self.streams[stream].rate = rate;
                for link in ends(&self.streams[stream]) {
                    links[link].free = (links[link].free - rate).max(0.0);
                    links[link].open -= 1;
                    if link != number && links[link].open > 0 {
                        shares.push(Reverse((links[link].share(), link)));
                    }
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Link {
    free: f64,
    /// Streams that have no rate yet.
    open: usize,
    streams: Vec<usize>,
}

impl Link {
    /// What is left for each stream without a rate, as bits: those of positive floats are in order.
    fn share(&self) -> u64 {
        (self.free / self.open as f64).max(f64::MIN_POSITIVE).to_bits()
    }
}

/// Checks the sharing against cases that can be worked out by hand; panics if one is wrong.
pub fn check() {
    let links = Links { bytes_per_us: 100.0, latency_us: 0 };
    let ends = |streams: &[(usize, usize, u64)]| {
        let mut network = Network::new(links);
        streams.iter().enumerate().for_each(|(n, &(from, to, bytes))| network.begin(0, from, to, bytes, n));
        let mut ends = vec![0; streams.len()];
        while let Some(now) = network.next_end_us() {
            network.take_ended(now).into_iter().for_each(|n| ends[n] = now);
        }
        ends
    };
    assert_eq!(ends(&[(0, 1, 1000)]), [10], "a stream alone has the whole link");
    assert_eq!(ends(&[(0, 1, 1000), (0, 2, 1000)]), [20, 20], "two share the way up");
    assert_eq!(ends(&[(0, 2, 1000), (1, 2, 500)]), [15, 10], "what one leaves goes to the other");
    assert_eq!(ends(&[(0, 1, 1000), (1, 0, 1000)]), [10, 10], "up and down are apart");
    // Three into node 3 get a third each; the one to node 4 gets what the way up from 0 has left.
    assert_eq!(ends(&[(0, 3, 1000), (1, 3, 1000), (2, 3, 1000), (0, 4, 2000)]), [30, 30, 30, 30]);
}
