//! What is asked of a store, whichever it is.

use crate::object::Sample;
use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One who writes and reads.
pub(crate) trait Client: Send + 'static {
    /// The object `name` is the sample after, durably.
    fn put(&mut self, name: String, sample: &Sample) -> impl Future<Output = Result<()>> + Send;
    /// True if there is an object `name`.
    fn has(&mut self, name: String) -> impl Future<Output = Result<bool>> + Send;
}

/// What is written to.
pub(crate) trait Target {
    type Client: Client;
    /// The `number`th client.
    fn client(&self, number: usize) -> impl Future<Output = Result<Self::Client>> + Send;
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Work {
    /// Clients that write one after the other, each its own objects.
    Write {
        #[arg(long, default_value_t = 1)]
        clients: usize,
        /// Of all clients together.
        #[arg(long)]
        count: usize,
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        /// What the objects' names begin with.
        #[arg(long)]
        prefix: String,
    },
    /// A write every so often, whether or not the one before was answered: what is the longest
    /// time without an answer?
    Pace {
        #[arg(long, default_value_t = 5)]
        every_ms: u64,
        #[arg(long)]
        seconds: f64,
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        #[arg(long)]
        prefix: String,
    },
    /// Waits until a read of `name` finds it.
    Find { name: String },
}

impl Work {
    /// Does it. What it says is one line of JSON.
    pub(crate) async fn run(self, target: &impl Target) -> Result<Value> {
        match self {
            Self::Write { clients, count, bytes, prefix } => {
                write(target, clients, count, &Sample::new(bytes), &prefix).await
            }
            Self::Pace { every_ms, seconds, bytes, prefix } => {
                let every = Duration::from_millis(every_ms);
                pace(target, every, Duration::from_secs_f64(seconds), (Sample::new(bytes), prefix)).await
            }
            Self::Find { name } => find(target, &name).await,
        }
    }
}

async fn write(
    target: &impl Target,
    clients: usize,
    count: usize,
    sample: &Sample,
    prefix: &str,
) -> Result<Value> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut opened = Vec::new();
    for number in 0..clients {
        opened.push(target.client(number).await?);
    }
    let mut running = JoinSet::new();
    let started = Instant::now();
    for mut client in opened {
        let (next, sample, prefix) = (Arc::clone(&next), sample.clone(), prefix.to_owned());
        running.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(took);
                }
                let begun = Instant::now();
                client.put(format!("{prefix}-{number:06}"), &sample).await?;
                took.push(begun.elapsed());
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(took) = running.join_next().await {
        all.extend(took??);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(summary(all, seconds))
}

/// The middle, and what nine in ten and ninety-nine in a hundred do not exceed.
pub(crate) fn summary(mut all: Vec<Duration>, seconds: f64) -> Value {
    all.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let at = |hundredth: usize| ms(all.get((all.len() * hundredth / 100).min(all.len().saturating_sub(1))));
    json!({
        "p50": at(50), "p90": at(90), "p99": at(99), "most": ms(all.last()),
        "per_second": all.len() as f64 / seconds,
    })
}

async fn pace(
    target: &impl Target,
    every: Duration,
    during: Duration,
    (sample, prefix): (Sample, String),
) -> Result<Value> {
    /// Clients that take turns, so that one whose write hangs holds up no other.
    const CLIENTS: usize = 4096;
    let mut tick = tokio::time::interval(every);
    let mut running = JoinSet::new();
    let (started, mut number) = (Instant::now(), 0);
    while started.elapsed() < during && number < CLIENTS {
        tick.tick().await;
        let mut client = target.client(number).await?;
        let (name, sample) = (format!("{prefix}-{number:06}"), sample.clone());
        running.spawn(async move {
            let result = client.put(name, &sample).await;
            (Instant::now(), result)
        });
        number += 1;
    }
    let (mut answered, mut failed) = (vec![started], 0);
    while let Some(ended) = running.join_next().await {
        match ended? {
            (at, Ok(())) => answered.push(at),
            (_, Err(_)) => failed += 1,
        }
    }
    answered.sort_unstable();
    let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
    let gap = gaps.max().unwrap_or(during).as_secs_f64() * 1e3;
    Ok(json!({"gap": gap, "answered": answered.len() - 1, "failed": failed}))
}

async fn find(target: &impl Target, name: &str) -> Result<Value> {
    const BETWEEN: Duration = Duration::from_millis(2);
    loop {
        if let Ok(mut client) = target.client(0).await
            && let Ok(Ok(true)) =
                tokio::time::timeout(Duration::from_secs(1), client.has(name.to_owned())).await
        {
            return Ok(json!({"found": name}));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}
