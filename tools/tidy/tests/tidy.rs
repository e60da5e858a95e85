//! The house rules as tests. A failure lists every place.

use std::fs;
use tidy::{code, forbidden, layer_violations, may_be_unsafe, packages, root, sources};

fn none(problems: Vec<String>, rule: &str) {
    assert!(problems.is_empty(), "{rule}\n  {}", problems.join("\n  "));
}

#[test]
fn dependencies_point_downward() {
    none(layer_violations(&packages()), "Dependencies that the layers forbid:");
}

#[test]
fn the_rule_itself_says_no() {
    assert!(forbidden("policy/slab", "machine/mem").is_some());
    assert!(forbidden("fs/tmpfs", "fs/procfs").is_some());
    assert!(forbidden("machine/arch", "machine/mem").is_some());
    assert!(forbidden("kernel/vm", "kernel/vfs").is_some());
    assert!(forbidden("kernel/vfs", "kernel/vm").is_none());
    assert!(forbidden("kernel/boot", "fs/tmpfs").is_none());
}

#[test]
fn safe_crates_forbid_unsafe() {
    let problems = packages()
        .iter()
        .filter(|p| !may_be_unsafe(&format!("{}/src/lib.rs", p.folder)) && !p.folder.starts_with("tools/"))
        .filter(|p| p.folder != "kernel/boot")
        .filter(|p| {
            let text = fs::read_to_string(root().join(&p.folder).join("src/lib.rs")).unwrap_or_default();
            !text.contains("#![forbid(unsafe_code)]")
        })
        .map(|p| p.folder.clone())
        .collect();
    none(problems, "Crates without #![forbid(unsafe_code)]:");
}

#[test]
fn unsafe_has_an_address_and_a_reason() {
    let mut problems = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.starts_with("tools/")) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = code(line);
            let block = code.contains("unsafe {") || code.contains("unsafe impl");
            if (block || code.contains("unsafe fn")) && !may_be_unsafe(file) {
                problems.push(format!("{file}:{}: unsafe code outside machine/", at + 1));
            }
            if block && !explained(&lines, at) {
                problems.push(format!("{file}:{}: no SAFETY comment above", at + 1));
            }
        }
    }
    none(problems, "Unsafe code:");
}

/// Whether a SAFETY comment stands within the few lines above (or at the end of) line `at`.
fn explained(lines: &[&str], at: usize) -> bool {
    let from = at.saturating_sub(12);
    lines[from..=at].iter().any(|line| line.contains("SAFETY:"))
}

#[test]
fn target_arch_stays_in_its_rooms() {
    let allowed = ["machine/arch/", "abi/", "kernel/syscall/", "user/", "tools/"];
    let problems = sources()
        .iter()
        .filter(|(file, _)| !allowed.iter().any(|folder| file.starts_with(folder)))
        .flat_map(|(file, text)| {
            let hits = text.lines().enumerate().filter(|(_, line)| code(line).contains("target_arch"));
            hits.map(|(at, _)| format!("{file}:{}", at + 1)).collect::<Vec<_>>()
        })
        .collect();
    none(problems, "cfg(target_arch) outside machine/arch, abi and kernel/syscall:");
}

#[test]
fn files_say_what_they_are_for() {
    let problems = sources()
        .iter()
        .filter(|(file, text)| {
            let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!")).unwrap_or("");
            !file.contains("/tests") && !first.starts_with("//!")
        })
        .map(|(file, _)| file.clone())
        .collect();
    none(problems, "Files that do not open with //! and the problem they solve:");
}

#[test]
fn nothing_promises_to_be_done_later() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut problems = Vec::new();
    for (file, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                problems.push(format!("{file}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    none(problems, "Code that promises to be finished later:");
}

#[test]
fn stable_rust_is_enough() {
    let mut problems = Vec::new();
    for (file, text) in tidy::sources() {
        for line in text.lines().map(tidy::code) {
            let attribute = line.trim_start().starts_with("#![") && line.contains(concat!("feat", "ure("));
            // The variable makes a stable compiler accept such code; one place uses it, for Debian's library source.
            let variable =
                line.contains(concat!("RUSTC", "_BOOTSTRAP")) && file != "tools/runner/src/cargo.rs";
            if attribute || variable {
                problems.push(format!("{file}: {line}"));
            }
        }
    }
    none(problems, "the code builds with stable Rust");
}

#[test]
fn every_layer_has_a_readme() {
    let layers = ["abi", "lib", "policy", "machine", "kernel", "fs", "net", "drivers", "user", "tools"];
    let problems = layers
        .iter()
        .filter(|layer| !root().join(layer).join("README.md").exists())
        .map(|layer| format!("{layer}/README.md is missing"))
        .collect();
    none(problems, "Each layer's README states its rule:");
}

/// A ratchet, to be lowered when functions are split, never raised.
#[test]
fn functions_stay_short() {
    const LONGEST: usize = 110;
    let mut problems = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.contains("/tests/")) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let is_fn = code(line).contains("fn ")
                && code(line).trim_end().ends_with('{')
                && !line.trim_start().starts_with("//");
            let end = format!("{}}}", " ".repeat(indent));
            if is_fn
                && let Some(len) = lines[at..].iter().position(|l| *l == end)
                && len > LONGEST
            {
                problems.push(format!("{file}:{}: {len} lines", at + 1));
            }
        }
    }
    none(problems, "Functions too long to read in one look:");
}
