use super::*;

fn info(name: &str) -> SchedulerInfo {
    *SCHEDULERS.iter().find(|info| info.name == name).expect("a known scheduler")
}

const WRITER: &str = "write seq size=1m depth=256";

#[test]
fn deadlines_save_a_reader_from_a_writer() {
    let text = format!("read random size=4k; {WRITER}");
    let (plain, plain_p99) = first_program(&info("none"), Kind::Hdd, &text);
    let (saved, saved_p99) = first_program(&info("mq-deadline"), Kind::Hdd, &text);
    assert!(saved > 4.0 * plain && saved_p99 < plain_p99 / 2, "{plain} {plain_p99} {saved} {saved_p99}");
}

#[test]
fn waiting_for_the_next_read_pays() {
    let text = format!("read seq size=64k think=1ms; {WRITER}");
    let (without, _) = first_program(&info("mq-deadline"), Kind::Hdd, &text);
    let (with, _) = first_program(&info("anticipatory"), Kind::Hdd, &text);
    assert!(with > 1.5 * without, "{without} {with}");
}

#[test]
fn slices_are_fair_to_programs() {
    let text = "read random size=4k; read random size=4k depth=32";
    let (without, _) = first_program(&info("mq-deadline"), Kind::Hdd, text);
    let (with, _) = first_program(&info("cfq"), Kind::Hdd, text);
    assert!(with > 2.0 * without, "{without} {with}");
}

#[test]
fn tokens_keep_a_fast_device_fast() {
    let text = format!("read random size=4k; {WRITER}");
    let (_, without) = first_program(&info("none"), Kind::Ssd, &text);
    let (_, with) = first_program(&info("kyber"), Kind::Ssd, &text);
    assert!(with < without / 2, "{without} {with}");
}

#[test]
fn runs_repeat() {
    let args: Vec<String> = ["--time", "2s", "--disk", "ssd"].map(String::from).into();
    assert_eq!(main(&args), main(&args));
    assert!(main(&["--policy".into(), "nosuch".into()]).is_err());
}

#[test]
fn a_chart_shows_one_workload_on_one_disk() {
    let run = |args: &[&str]| super::main(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>());
    let file = std::env::temp_dir().join(format!("ochre-sim-io-{}.svg", std::process::id()));
    let name = file.to_string_lossy().into_owned();
    assert!(run(&["--chart", &name]).is_err_and(|error| error.contains("one disk")));
    let text = ["--chart", &name, "--disk", "ssd", "--workload", "read random", "--time", "1s"];
    run(&text).expect("a chart");
    let drawn = std::fs::read_to_string(&file).expect("the file");
    let _ = std::fs::remove_file(&file);
    assert!(drawn.starts_with("<svg") && super::SCHEDULERS.iter().all(|info| drawn.contains(info.name)));
}
