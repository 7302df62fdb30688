//! What stands in the way of a run - pipes that close, directories that refuse, disks that are
//! full, launchers of another MPI - is told in a clear error, with an exit code, and hangs nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[cfg(feature = "mpi")]
use crate::harness::is_on_path;
use crate::harness::{BOTH, Place, Ranks};

/// Prints much, and lines while it runs.
const CHATTY: &str = "[tasks.chatty]\neach = { i = '0..199' }\nrun = 'seq 1000'\nstdout = 'forward'\n";

/// `sh -c` with dagmar as `"$0"` and the rest as `"$@"`, in a place.
fn shell(place: &Place, script: &str) -> Command {
    let dagmar = place.command(Ranks::Alone);
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(dagmar.get_program());
    for (name, value) in dagmar.get_envs() {
        shell.env(name, value.expect("no variable is removed"));
    }
    shell.current_dir(place.path());
    shell
}

#[test]
fn a_reader_that_has_seen_enough_does_not_end_the_run() {
    let place = Place::with(CHATTY);
    let script = r#""$0" run g.toml | head -1; echo "${PIPESTATUS[0]}""#;
    let run = place.spawn(shell(&place, script)).end();
    assert_eq!(run.text(), "1\n0\n", "{run}");
    let status = place.status();
    assert_eq!(status["report"]["tasks"]["finished"], 200, "{status}");
}

#[test]
fn a_closed_standard_error_does_not_end_the_run() {
    let place = Place::with("[tasks.bad]\nrun = 'exit 1'\n[tasks.good]\nrun = 'sleep 0.3; touch ran'\n");
    let script = r#"{ "$0" run g.toml 2>&1 >/dev/null; echo $? >code; } | true"#;
    place.spawn(shell(&place, script)).end();
    assert_eq!(place.read("code"), "3\n");
    assert!(place.path().join("ran").exists());
    let closed = place.spawn(shell(&place, r#""$0" run g.toml 2>&- >&- <&-; echo $?"#)).end();
    assert_eq!(closed.text(), "3\n", "{closed}");
    let bad_graph = place.spawn(shell(&place, r#"{ "$0" run nowhere 2>&1; echo $? >code; } | true"#)).end();
    assert_eq!(place.read("code"), "2\n", "{bad_graph}");
}

#[test]
fn logs_end_quietly_when_their_reader_does() {
    let place = Place::with("[tasks.loud]\nrun = 'seq 1000000'\n");
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    let run = place.spawn(shell(&place, r#""$0" logs | head -2; echo "${PIPESTATUS[0]}""#)).end();
    assert_eq!(run.text(), "==> loud <==\n1\n0\n", "{run}");
    assert_eq!(run.stderr, "");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let place = Place::with("[tasks.a]\nrun = 'true'\n");
    // Nobody may write here, and root becomes somebody.
    let nowhere = place.path().join("sealed");
    fs::create_dir(&nowhere).expect("a folder can be made");
    fs::set_permissions(&nowhere, fs::Permissions::from_mode(0o555)).expect("it can be sealed");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("it can be opened");
    let as_nobody = r#"
        run=("$0" run ../g.toml)
        if [ "$(id -u)" = 0 ]; then run=(setpriv --reuid=65534 --regid=65534 --clear-groups "${run[@]}"); fi
        cp "$0" "$TMPDIR/dagmar" 2>/dev/null
        cd sealed && "${run[@]}""#;
    let run = place.spawn(shell(&place, as_nobody)).end();
    assert_eq!(run.code(), Some(2), "{run}");
    run.tells("cannot use the run directory").tells("sealed/dagmar-runs").tells("Permission denied");
    place.expect_nothing_left();
}

#[test]
fn a_run_directory_is_never_used_twice() {
    let place = Place::with("name = 'first'\n[tasks.a]\nrun = 'echo first'\n");
    place.write("second.toml", "name = 'second'\n[tasks.b]\nrun = 'touch second'\n");
    for ranks in BOTH {
        let into = if ranks == Ranks::Alone { "alone" } else { "mpi" };
        place.expect(0, ranks, &["run", "g.toml", "--into", into]);
        let run = place.expect(2, ranks, &["run", "second.toml", "--into", into]);
        run.tells(&format!("error: `{into}` holds a run already"));
        assert!(!place.path().join("second").exists());
        let status = place.expect(0, Ranks::Alone, &["status", into]);
        assert!(status.text().contains("  a  1 finished"), "the first run's record is as it was: {status}");
    }
}

/// A disk that is full at once: the run directory's files cannot grow.
fn check_full_disk(ranks: Ranks) {
    let place = Place::with("[tasks.loud]\neach = { i = '0..3' }\nrun = 'head -c 3000000 /dev/zero'\n");
    let mut mpirun = place.command(ranks);
    mpirun.args(["run", "g.toml", "--into", "disk/run"]);
    let words = std::iter::once(mpirun.get_program()).chain(mpirun.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    // Without a file system of its own, which needs root, the limit on the size of files serves.
    let script = format!(
        r#"mkdir disk; unshare --mount bash -c 'mount -t tmpfs -o size=1m tmpfs disk; "$@"; code=$?
           ls -la disk/run/output >&2; exit $code' - {}"#,
        words.join(" ")
    );
    let mut command = shell(&place, &script);
    for (name, value) in mpirun.get_envs() {
        command.env(name, value.expect("no variable is removed"));
    }
    let run = place.spawn(command).end();
    assert_eq!(run.code(), Some(1), "{run}");
    run.tells("error: rank ").tells("cannot write its pack: No space left on device");
    place.expect_nothing_left();
}

#[test]
fn a_full_disk_is_told_alone() {
    check_full_disk(Ranks::Alone);
}

#[cfg(feature = "mpi")]
#[test]
fn a_full_disk_is_told_under_mpirun() {
    check_full_disk(Ranks::Mpi(3));
}

#[cfg(feature = "mpi")]
#[test]
fn one_rank_of_mpirun_is_alone() {
    let place = Place::with("[tasks.x]\ncall = 'add'\nargs = [2, 3]\n");
    let run = place.expect(0, Ranks::Mpi(1), &["run", "g.toml", "x", "--workers", "2"]);
    assert_eq!(run.text(), "5\n");
    run.tells("on 2 workers");
}

/// Two ranks, each bound to one core, which Open MPI does with two ranks by itself.
#[cfg(feature = "mpi")]
#[test]
fn two_ranks_bound_to_a_core_each_warn_and_work() {
    let place = Place::with("[tasks.x]\ncall = 'add'\nargs = [2, 3]\n");
    let mut command = place.command(Ranks::Mpi(2));
    let names =
        ["OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy", "HYDRA_BINDING"];
    for name in names {
        command.env(name, "core");
    }
    command.args(["run", "g.toml", "x"]);
    let run = place.spawn(command).end();
    assert_eq!((run.code(), run.text()), (Some(0), "5\n"), "{run}");
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        run.tells("warning: a worker on ").tells("is bound to 1 of ").tells("`mpirun --bind-to none`");
    }
}

#[cfg(feature = "mpi")]
#[test]
fn a_launcher_that_mpi_does_not_know_is_refused() {
    let place = Place::with("[tasks.x]\nrun = 'touch ran'\n");
    let mut command = place.command(Ranks::Alone);
    // This MPI's own variable is believed by MPI itself.
    command.args(["run", "g.toml"]).env("MV2_COMM_WORLD_SIZE", "4");
    let run = place.spawn(command).end();
    assert_eq!(run.code(), Some(2), "{run}");
    let library = dagmar::transport::mpi::library::library();
    run.tells("started by MVAPICH's mpirun (`MV2_COMM_WORLD_SIZE=4`)");
    run.tells(&format!("but this dagmar is linked with {library}, which knows of 1 rank\n"));
    run.tells("  hint: start it with ").tells(library.how_to_start());
    assert!(place.runs().is_empty() && !place.path().join("ran").exists());
    place.expect_nothing_left();
}

/// Open MPI's mpirun with a dagmar of MPICH, and the other way round, where both are installed.
#[cfg(feature = "mpi")]
#[test]
fn the_launcher_of_another_mpi_is_refused() {
    use dagmar::transport::mpi::library::{Family, library};

    let (other, launcher) = match library().family {
        Family::OpenMpi => ("mpiexec.mpich", "a PMI launcher, as MPICH's mpiexec (`PMI_SIZE=4`)"),
        _ => ("mpirun.openmpi", "an Open MPI mpirun (`OMPI_COMM_WORLD_SIZE=4`)"),
    };
    if !is_on_path(other) {
        println!("cannot run here: there is no `{other}`; `. scripts/setup; set_up_testbed` installs it");
        return;
    }
    let place = Place::with("[tasks.x]\nrun = 'touch ran'\n");
    let mut command = place.mpi_command(other, 4);
    command.args(["run", "g.toml"]);
    let run = place.spawn(command).end();
    assert_eq!(run.code(), Some(2), "{run}");
    run.tells(&format!("started by {launcher}, but this dagmar is linked with {}", library()));
    run.tells(library().how_to_start());
    assert!(place.runs().is_empty() && !place.path().join("ran").exists());
    place.expect_nothing_left();
}

#[cfg(feature = "mpi")]
#[test]
fn the_log_and_the_version_name_the_mpi() {
    let library = dagmar::transport::mpi::library::library();
    let place = Place::with("[tasks.x]\ncall = 'add'\nargs = [2, 3]\n");
    let version = place.expect(0, Ranks::Alone, &["--version"]);
    assert_eq!(version.text(), format!("dagmar {}\nwith {library}\n", env!("CARGO_PKG_VERSION")));
    place.expect(0, Ranks::Mpi(2), &["run", "g.toml"]);
    let log = std::fs::read_to_string(place.run().join("logs/rank-0.log")).expect("rank 0 has a log");
    assert!(
        log.contains(&format!("{library}, thread level ")) && log.contains(": 2 ranks, started by "),
        "{log}"
    );
}
