//! `bench`.
use crate::cli::BenchArgs;
use anyhow::Result;
/// Runs.
pub fn run(_: &BenchArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
