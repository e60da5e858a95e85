//! Getting a package index although mirrors are in a bad moment.
//!
//! Problem: an index is two files that must fit: the signed Release file, and the package list whose size and hash
//! it names. A mirror that is being brought up to date, or a proxy that keeps old files, hands out one of each kind
//! for some minutes ("File has unexpected size. Mirror sync in progress?"). Other troubles (a name that does not
//! resolve, a gateway that times out) pass as well; a missing suite and an unknown signature do not.
//!
//! Interface: [`find`], which is told how to try and how to pause, so that it is tested without a network.
//!
//! Idea: every source is tried in several [`Way`]s that meet other files of the mirror or pass by a proxy's copies,
//! then after a pause again, with longer and longer pauses. A source with a lasting trouble is not asked again. The
//! alternative, `Acquire::Retries`, asks for the same file within a second, and so gets the same wrong answer.

use std::path::PathBuf;
use std::time::Duration;

/// The releases to look for: the first with riscv64, and the name that it has today, under which a proxy may have
/// kept other files.
pub const SUITES: &[&str] = &["trixie", "stable"];
/// What is taken rather than nothing.
pub const LAST_SUITES: &[&str] = &["testing"];

/// Pauses between rounds, in seconds: together about four minutes.
const PAUSES: [u64; 6] = [2, 8, 20, 40, 60, 120];

/// Where an index may come from, and whom to believe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The archive's address.
    pub mirror: String,
    /// The release.
    pub suite: &'static str,
    /// The file with the keys that may sign it.
    pub keyring: PathBuf,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.suite, self.mirror)
    }
}

/// How to ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// As the host's apt would.
    Plain,
    /// Proxies are told to ask the mirror, and the list is wanted in another compression: other files than before.
    Fresh,
    /// As before, and by the names that files have until the mirror has changed completely.
    ByHash,
    /// Never by those names, for mirrors that do not have them.
    ByName,
}

impl Way {
    const ALL: [Self; 4] = [Self::Plain, Self::Fresh, Self::ByHash, Self::ByName];

    /// Lines for apt's configuration.
    pub fn configuration(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Fresh => {
                "Acquire::http::No-Cache \"true\";\nAcquire::CompressionTypes::Order { \"gz\"; };\n"
            }
            Self::ByHash => "Acquire::http::No-Cache \"true\";\nAcquire::By-Hash \"force\";\n",
            Self::ByName => {
                "Acquire::http::No-Cache \"true\";\nAcquire::By-Hash \"no\";\n\
                 Acquire::CompressionTypes::Order { \"gz\"; };\n"
            }
        }
    }
}

/// Whether asking this source once more is useless, judged by what apt (in English) printed.
pub fn is_lasting(log: &str) -> bool {
    let words = ["does not have a Release file", "doesn't support architecture", "No space left on device"];
    is_about_keys(log) || words.iter().any(|words| log.contains(words))
}

/// Whether the trouble is that the keyring does not know who signed.
pub fn is_about_keys(log: &str) -> bool {
    ["NO_PUBKEY", "is not signed", "were invalid:"].iter().any(|words| log.contains(words))
}

/// The one line of apt's output that says most.
pub fn essence(log: &str) -> String {
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.starts_with("E:")).or_else(|| lines().find(|l| l.starts_with("W:")));
    error.or_else(|| lines().last()).unwrap_or("no reason given").to_owned()
}

/// What [`find`] needs of the world.
pub trait World {
    /// Tries to get the index; an error is apt's output.
    fn attempt(&mut self, source: &Source, way: Way) -> Result<(), String>;
    /// Waits before the next round. Answers false when there is no time left.
    fn pause(&mut self, time: Duration, reason: &str) -> bool;
}

/// The first source that gives an index. With `patient`, for minutes; otherwise every source is asked once in every
/// way. An error is the reason of the last failure, in one line.
pub fn find(world: &mut impl World, mut sources: Vec<Source>, patient: bool) -> Result<Source, String> {
    let mut reason = "there is no source".to_owned();
    let pauses = PAUSES.iter().filter(|_| patient).map(|&s| Some(Duration::from_secs(s)));
    for pause in pauses.chain([None]) {
        let mut lasting = Vec::new();
        for source in &sources {
            match any_way(world, source) {
                Ok(()) => return Ok(source.clone()),
                Err(log) => {
                    // What may pass is the better reason: it is about the source that should have worked.
                    if !is_lasting(&log) || lasting.len() + 1 == sources.len() {
                        reason = essence(&log);
                    }
                    lasting.extend(is_lasting(&log).then(|| source.clone()));
                }
            }
        }
        sources.retain(|source| !lasting.contains(source));
        let Some(time) = pause.filter(|_| !sources.is_empty()) else { break };
        if !world.pause(time, &reason) {
            break;
        }
    }
    Err(reason)
}

fn any_way(world: &mut impl World, source: &Source) -> Result<(), String> {
    let mut last = String::new();
    for way in Way::ALL {
        match world.attempt(source, way) {
            Ok(()) => return Ok(()),
            Err(log) => last = log,
        }
        if is_lasting(&last) {
            break;
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: &str = "Get:1 http://m/debian trixie/main riscv64 Packages\n\
        E: Failed to fetch http://m/debian/Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?\n\
        E: Some index files failed to download. They have been ignored, or old ones used instead.";
    const NO_KEY: &str = "W: GPG error: the following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131\n\
        E: The repository 'http://m/debian trixie InRelease' is not signed.";
    const NO_SUITE: &str = "E: The repository 'http://m/debian trixie Release' does not have a Release file.";

    /// A world whose mirrors are in order from some moment on.
    struct Fake {
        answer: fn(&Source, Way, u64) -> Result<(), String>,
        seconds: u64,
        attempts: u32,
    }

    impl World for Fake {
        fn attempt(&mut self, source: &Source, way: Way) -> Result<(), String> {
            self.attempts += 1;
            (self.answer)(source, way, self.seconds)
        }

        fn pause(&mut self, time: Duration, _reason: &str) -> bool {
            self.seconds += time.as_secs();
            true
        }
    }

    fn source(mirror: &str, suite: &'static str) -> Source {
        Source { mirror: mirror.into(), suite, keyring: "keys".into() }
    }

    fn run(
        answer: fn(&Source, Way, u64) -> Result<(), String>,
        patient: bool,
    ) -> (Result<Source, String>, u64, u32) {
        let mut world = Fake { answer, seconds: 0, attempts: 0 };
        let sources = vec![source("http://m/debian", "trixie"), source("http://n/debian", "stable")];
        (find(&mut world, sources, patient), world.seconds, world.attempts)
    }

    #[test]
    fn a_mirror_in_order_is_asked_once() {
        assert_eq!(run(|_, _, _| Ok(()), true), (Ok(source("http://m/debian", "trixie")), 0, 1));
    }

    #[test]
    fn a_mirror_being_synchronised_is_asked_again_after_pauses() {
        let (found, seconds, _) =
            run(|_, _, seconds| (seconds >= 60).then_some(()).ok_or(SYNC.to_owned()), true);
        assert_eq!((found, seconds), (Ok(source("http://m/debian", "trixie")), 70));
        let (found, seconds, attempts) = run(|_, _, _| Err(SYNC.into()), true);
        assert!(found.is_err_and(|reason| reason.contains("Mirror sync in progress")));
        assert_eq!((seconds, attempts), (250, 7 * 2 * 4));
        let (_, seconds, attempts) = run(|_, _, _| Err(SYNC.into()), false);
        assert_eq!((seconds, attempts), (0, 2 * 4));
    }

    #[test]
    fn another_way_or_another_mirror_helps_at_once() {
        let by_hash = |_: &Source, way, _| (way == Way::ByHash).then_some(()).ok_or(SYNC.to_owned());
        assert_eq!(run(by_hash, true), (Ok(source("http://m/debian", "trixie")), 0, 3));
        let other =
            |s: &Source, _, _| if s.suite == "stable" { Ok(()) } else { Err::<(), _>(NO_SUITE.into()) };
        assert_eq!(run(other, true), (Ok(source("http://n/debian", "stable")), 0, 2));
    }

    #[test]
    fn lasting_trouble_is_not_waited_for() {
        for log in [NO_KEY, NO_SUITE] {
            assert!(is_lasting(log));
        }
        assert!(is_about_keys(&essence(NO_KEY)) && !is_about_keys(NO_SUITE));
        assert!(!is_lasting(SYNC));
        let (found, seconds, attempts) = run(|_, _, _| Err(NO_KEY.into()), true);
        assert!(found.is_err_and(|reason| reason.contains("is not signed")));
        assert_eq!((seconds, attempts), (0, 2));
        // One source may recover: only that one is asked again, and its trouble is the one that is told.
        let mixed = |s: &Source, _: Way, _: u64| {
            Err::<(), _>(if s.suite == "stable" { NO_SUITE.to_owned() } else { SYNC.to_owned() })
        };
        let (found, _, attempts) = run(mixed, true);
        assert!(found.is_err_and(|reason| reason.contains("Mirror sync in progress")));
        assert_eq!(attempts, 7 * 4 + 1);
    }
}
