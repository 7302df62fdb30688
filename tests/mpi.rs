//! The MPI transport under a real `mpirun`.
//!
//! Without `DAGMAR_TEST_CASE` this program starts itself under `mpirun`, once for each case, and
//! reports as Rust's own test program does. With it, it is a rank of that case.
//!
//! `DAGMAR_TEST_MPIRUN` names the launcher of another MPI than `mpirun`'s.
//! `DAGMAR_GIANT_BYTES=3000000000` adds parcels of that size. `DAGMAR_MEASURE=1` adds a case
//! that prints latencies and bandwidths.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dagmar::core::id::Rank;
use dagmar::transport::conformance::{Plan, check_all};
use dagmar::transport::endpoint::{Endpoint, Parcel};
use dagmar::transport::mpi::library::{Family, library};
use dagmar::transport::mpi::{EAGER_BYTES, Mpi, PIECE_BYTES, abort_job};

/// What is proved, on how many ranks, what each does, and how the job must end.
struct Case {
    name: &'static str,
    ranks: u32,
    run: fn(Mpi),
    end: End,
}

/// How a job must end.
enum End {
    Success,
    /// With this exit code, though some of its ranks wait for ever.
    Code(i32),
}

const CASES: [Case; 9] = [
    Case { name: "two_ranks_conform", ranks: 2, run: conform, end: End::Success },
    Case { name: "four_ranks_conform", ranks: 4, run: conform, end: End::Success },
    Case {
        name: "ranks_that_send_in_small_pieces_conform",
        ranks: 3,
        run: conform_in_pieces,
        end: End::Success,
    },
    Case {
        name: "a_rank_closes_while_a_large_body_is_on_its_way_to_it",
        ranks: 3,
        run: close_during_a_transfer,
        end: End::Success,
    },
    Case { name: "idle_ranks_leave_the_cores_alone", ranks: 7, run: stay_idle, end: End::Success },
    Case {
        name: "an_abort_from_another_thread_ends_the_job",
        ranks: 3,
        run: abort_from_another_thread,
        end: End::Code(7),
    },
    Case {
        name: "ranks_that_end_one_after_the_other_keep_their_codes",
        ranks: 3,
        run: end_one_after_the_other,
        end: End::Code(3),
    },
    Case { name: "a_panic_ends_the_job", ranks: 3, run: panic_on_rank_1, end: End::Code(1) },
    Case { name: "measure", ranks: 2, run: measure, end: End::Success },
];

fn main() -> ExitCode {
    if let Ok(name) = env::var("DAGMAR_TEST_CASE") {
        let case = CASES.iter().find(|case| case.name == name).expect("the case exists");
        be_a_rank(case);
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let wanted = |case: &&Case| {
        let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        let is_asked_for = case.name != "measure" || env::var("DAGMAR_MEASURE").is_ok();
        is_asked_for
            && (filters.peek().is_none() || filters.any(|filter| case.name.contains(filter.as_str())))
    };
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    report(&cases)
}

fn report(cases: &[&Case]) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    let mut failed = 0;
    for case in cases {
        match launch(case) {
            Ok(()) => println!("test {} ... ok", case.name),
            Err(story) => {
                println!("test {} ... FAILED\n{story}", case.name);
                failed += 1;
            }
        }
    }
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, cases.len() - failed);
    let filtered = CASES.len() - cases.len();
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Runs a case under `mpirun`; the story if it did not end as it must.
fn launch(case: &Case) -> Result<(), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let ranks = case.ranks.to_string();
    let mut mpirun = Command::new("timeout");
    let launcher = env::var("DAGMAR_TEST_MPIRUN").unwrap_or_else(|_| "mpirun".into());
    mpirun.args(["-k", "5", "120", &launcher, "-n", &ranks]).arg(program);
    mpirun.env("DAGMAR_TEST_CASE", case.name);
    // Test machines have few cores, and containers one user.
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    mpirun.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    let began = Instant::now();
    let output =
        mpirun.stdin(Stdio::null()).output().map_err(|error| format!("cannot start mpirun: {error}"))?;
    let took = began.elapsed();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let ended_well = match case.end {
        End::Success => output.status.success(),
        End::Code(code) => output.status.code() == Some(code),
    };
    if !ended_well {
        return Err(format!("the job ended with {} after {took:?}\n{said}", output.status));
    }
    said.lines().filter(|line| line.starts_with("# ")).for_each(|line| println!("{line}"));
    Ok(())
}

fn be_a_rank(case: &Case) {
    let endpoint = Mpi::start().expect("MPI starts under mpirun");
    assert_eq!(endpoint.size(), case.ranks);
    assert_eq!(endpoint.ranks_on_node(), case.ranks);
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        said(panic);
        abort_job(1);
    }));
    (case.run)(endpoint);
}

fn conform(mut endpoint: Mpi) {
    let giant_bytes = env::var("DAGMAR_GIANT_BYTES").ok().and_then(|bytes| bytes.parse().ok());
    let plan = Plan {
        eager_bytes: EAGER_BYTES,
        piece_bytes: PIECE_BYTES,
        giant_bytes,
        are_processes: true,
        ..Plan::default()
    };
    check_all(&mut endpoint, &plan);
    endpoint.finish(true).expect("MPI can be finalized");
}

/// A body of a few hundred kilobytes takes as many pieces as one of gigabytes does, and ranks differ.
fn conform_in_pieces(endpoint: Mpi) {
    let piece_bytes = [509, 4_096, 70_001][endpoint.rank().index()];
    let mut endpoint = endpoint.with_pieces_of(piece_bytes);
    let plan = Plan {
        eager_bytes: EAGER_BYTES,
        piece_bytes: 100_000,
        giant_bytes: Some(2_000_003),
        are_processes: true,
        ..Plan::default()
    };
    check_all(&mut endpoint, &plan);
    endpoint.finish(true).expect("MPI can be finalized");
}

/// A stop during a fetch: rank 0 says goodbye while rank 2 sends to rank 1, which wants it no more.
fn close_during_a_transfer(mut endpoint: Mpi) {
    let goodbye = || Parcel { head: vec![0], ..Parcel::default() };
    let large = Parcel { head: vec![1], body: vec![1; 64 << 20].into() };
    match endpoint.rank() {
        Rank(0) => {
            await_parcel(&mut endpoint);
            endpoint.send(Rank(1), goodbye()).expect("rank 1 is there");
            endpoint.send(Rank(2), goodbye()).expect("rank 2 is there");
        }
        // On a busy machine all of the large one may be there first.
        Rank(1) => while await_parcel(&mut endpoint) != (Rank(0), goodbye()) {},
        _ => {
            endpoint.send(Rank(1), large).expect("rank 1 is there");
            endpoint.send(Rank(0), Parcel::default()).expect("rank 0 is there");
            await_parcel(&mut endpoint);
        }
    }
    endpoint.close().expect("what is on its way is taken in");
    endpoint.close().expect("to close again changes nothing");
    endpoint.finish(true).expect("MPI can be finalized");
}

/// The next parcel, whenever it comes.
fn await_parcel(endpoint: &mut Mpi) -> (Rank, Parcel) {
    loop {
        match endpoint.receive().expect("receiving works") {
            Some(received) => return received,
            None => endpoint.wait(Duration::from_secs(10)),
        }
    }
}

/// All ranks together may use a tenth of one core, though each sends a sign of life every second. The quietest
/// of some spells counts: what a busy machine adds is not theirs.
fn stay_idle(mut endpoint: Mpi) {
    const SPELL: Duration = Duration::from_secs(5);
    const SPELLS: usize = 3;
    let mut used = vec![0.0; SPELLS];
    let mut heard = Vec::new();
    for mine in &mut used {
        let before = cpu_seconds();
        idle(&mut endpoint, SPELL, &mut heard);
        *mine = cpu_seconds() - before;
    }
    println!("# rank {} used {used:?} s of {SPELLS} times {SPELL:?}", endpoint.rank());
    if endpoint.rank() == Rank::SCHEDULER {
        while heard.len() + 1 < endpoint.size() as usize {
            take_reports(&mut endpoint, &mut heard, Duration::from_secs(1));
        }
        let together = |spell: usize| used[spell] + heard.iter().map(|other| other[spell]).sum::<f64>();
        let least = (0..SPELLS).map(together).fold(f64::INFINITY, f64::min);
        println!("# together {:.2} % of a core", least * 100.0 / SPELL.as_secs_f64());
        assert!(least <= 0.1 * SPELL.as_secs_f64(), "idle ranks used {least} s in {SPELL:?}");
    } else {
        let report: Vec<u8> = used.iter().flat_map(|seconds| seconds.to_le_bytes()).collect();
        let parcel = Parcel { head: report, ..Parcel::default() };
        endpoint.send(Rank::SCHEDULER, parcel).expect("rank 0 is there");
    }
    endpoint.close().expect("everything was received");
    endpoint.finish(true).expect("MPI can be finalized");
}

fn idle(endpoint: &mut Mpi, spell: Duration, heard: &mut Vec<Vec<f64>>) {
    let (began, mut last_sign) = (Instant::now(), Instant::now());
    while began.elapsed() < spell {
        take_reports(endpoint, heard, Duration::from_millis(250));
        if last_sign.elapsed() > Duration::from_secs(1) && endpoint.rank() != Rank::SCHEDULER {
            let sign = Parcel { head: vec![1; SIGN_BYTES], ..Parcel::default() };
            endpoint.send(Rank::SCHEDULER, sign).expect("rank 0 is there");
            last_sign = Instant::now();
        }
    }
}

/// A sign of life, which no report is as short as.
const SIGN_BYTES: usize = 8;

/// Waits once, takes all that came, and keeps what other ranks say they used.
fn take_reports(endpoint: &mut Mpi, heard: &mut Vec<Vec<f64>>, limit: Duration) {
    endpoint.wait(limit);
    while let Some((_, Parcel { head, .. })) = endpoint.receive().expect("receiving works") {
        if head.len() > SIGN_BYTES {
            let numbers =
                head.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")));
            heard.push(numbers.collect());
        }
    }
}

/// CPU time of this process, in user and kernel mode: fields 14 and 15, hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    let (_, fields) = stat.rsplit_once(')').expect("the name ends with a parenthesis");
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn abort_from_another_thread(mut endpoint: Mpi) {
    if endpoint.rank() == Rank(1) {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            abort_job(7);
        });
    }
    loop {
        endpoint.wait(Duration::from_secs(1));
    }
}

/// As ranks on several nodes end. MPICH's are not finalized then, and its launcher would kill the late one.
fn end_one_after_the_other(mut endpoint: Mpi) {
    let is_late = endpoint.rank() == Rank::SCHEDULER;
    endpoint.close().expect("nothing is on its way");
    match library().family {
        Family::Mpich => endpoint.leave().expect("the launcher is told"),
        _ => endpoint.finish(true).expect("MPI can be finalized"),
    }
    if is_late {
        std::thread::sleep(Duration::from_millis(300));
        std::process::exit(3);
    }
}

fn panic_on_rank_1(mut endpoint: Mpi) {
    assert!(endpoint.rank() != Rank(1), "rank 1 panics as planned");
    loop {
        endpoint.wait(Duration::from_secs(1));
    }
}

/// Sizes, and round trips in a round.
const SIZES: [(usize, u32); 7] =
    [(8, 100), (1024, 100), (4000, 100), (4096, 100), (65_536, 20), (1 << 20, 5), (64 << 20, 1)];

/// One-way times. The best of many short rounds, for others may use the machine too.
fn measure(mut endpoint: Mpi) {
    for (bytes, trips) in SIZES {
        let mut best = f64::MAX;
        for _ in 0..if bytes > 1 << 20 { 20 } else { 200 } {
            let began = Instant::now();
            ping_pong(&mut endpoint, bytes, trips);
            best = best.min(began.elapsed().as_secs_f64() / f64::from(trips) / 2.0);
        }
        if endpoint.rank() == Rank::SCHEDULER {
            let rate = bytes as f64 / best / 1e9;
            println!("# {bytes:>9} bytes one way: {:>9.2} us, {rate:.2} GB/s", best * 1e6);
        }
    }
    endpoint.close().expect("everything was received");
    endpoint.finish(true).expect("MPI can be finalized");
}

fn ping_pong(endpoint: &mut Mpi, bytes: usize, rounds: u32) {
    let other = Rank(1 - endpoint.rank().0);
    let body = Arc::new(vec![1_u8; bytes]);
    for _ in 0..rounds {
        if endpoint.rank() == Rank::SCHEDULER {
            endpoint.send(other, parcel_of(&body)).expect("the other rank is there");
        }
        let (_, parcel) = await_parcel(endpoint);
        if endpoint.rank() != Rank::SCHEDULER {
            endpoint.send(other, parcel).expect("the other rank is there");
        }
    }
}

/// Short bodies ride in the head, as messages do.
fn parcel_of(body: &Arc<Vec<u8>>) -> Parcel {
    if body.len() <= 1024 {
        Parcel { head: body.to_vec(), ..Parcel::default() }
    } else {
        Parcel { head: vec![0; 16], body: body.clone().into() }
    }
}
