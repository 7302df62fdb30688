//! Cluster templates: how they are found, what they may say, and what is said of those that may not.

use std::fs;
use std::path::Path;

use dagmar::launch::given::Source;
use dagmar::launch::limits;
use dagmar::launch::template::{Origin, Places, Template};

use super::asking::{MARK, ask, script};
use super::cases::{DEMANDS_NTASKS, FORBIDS_MEMORY, TOTALS};

/// What is said of a template: the message without its directory, and the hint.
fn refusal(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.toml");
    fs::write(&path, text).unwrap();
    let (message, hint) = match Template::find(path.to_str().unwrap(), &Places::default()) {
        Err(error) => (error.to_string(), error.hint()),
        Ok(template) => {
            let error =
                dagmar::launch::request::Request::new(&template, &[]).expect_err("it should be refused");
            (error.to_string(), error.hint)
        }
    };
    let message = message.replace(&format!("{}/", directory.path().display()), "");
    let hint = hint.unwrap_or_default().replace(&directory.path().display().to_string(), "DIR");
    format!("{message}\n  hint: {hint}")
}

#[test]
fn a_wrong_template_says_where_and_what_to_do() {
    let texts = [
        "extends = \"slurm\"\n\nacount = \"x\"\n",
        "extends = \"slurm\"\nnodes = \"four\"\n",
        "extends = \"slurm\"\nnodes = 0\n",
        "extends = \"slurm\"\naccount = \"a\nb\"\n",
        "extends = \"slurm\"\naccount = \"a\\nb\"\n",
        "extends = \"slurm\"\naccount = \"-n4\"\n",
        "extends = \"slurm\"\nproject = \"ab1\"\n",
        "extends = \"slurm\"\n[launcher]\nkind = \"srn\"\n",
        "extends = \"slurm\"\n[limits]\nwalltime = \"2h\"\n",
        "extends = \"slurm\"\nremove = [\"memroy\"]\n",
        "extends = \"slurm\"\nqueue = \"a\"\npartition = \"b\"\n",
        "extends = \"slurm\"\nwalltime = \"2 fortnights\"\n",
        "extends = \"slurm\"\ndirectives = [\"#SBATCH --nice\"]\n",
        "extends = \"slurm\"\nmemory = \"64\"\n",
        "extends = \"slurm\"\nmemory = \"64G\"\nmemory_per_cpu = \"1G\"\n",
        "extends = \"slurm\"\nworkers_per_node = \"gpu\"\n",
        "extends = \"slurm\"\ncpus_per_node = 8\ncpus_per_worker = 4\nworkers_per_node = 3\n",
        "extends = \"pbs\"\nmemory = \"all\"\n",
        "extends = \"pbs\"\nform = \"totals\"\nexclusive = true\n",
        "extends = \"pbs\"\ngpu_type = \"a100\"\n",
        "extends = \"torque\"\nform = \"select\"\n",
        "extends = \"torque\"\nname = \"longer-than-fifteen\"\n",
        "nodes = 4\n",
        "extends = \"slrum\"\n",
        "extends = \"./site.toml\"\n",
        "extends = \"slurm\"\njob_script = \"no.sh.j2\"\n",
        "extends = \"slurm\"\n[environment.variables]\n\"A B\" = \"x\"\n",
        "extends = \"slurm\"\n[environment.variables]\nUID = \"0\"\n",
        "extends = \"slurm\"\nshebang = \"#!/bin/sh\"\n",
    ];
    let said: Vec<String> = texts.iter().map(|text| format!("{text}-> {}\n", refusal(text))).collect();
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("wrong_templates", said.join("\n"));
    });
}

#[test]
fn a_template_is_found_by_name_and_may_extend_one_of_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    for place in [&first, &second] {
        fs::create_dir(place).unwrap();
    }
    fs::write(first.join("slurm.toml"), "extends = \"slurm\"\nqueue = \"first\"\n").unwrap();
    fs::write(second.join("slurm.toml"), "extends = \"slurm\"\nqueue = \"second\"\naccount = \"x\"\n")
        .unwrap();
    fs::write(first.join("graph.toml"), "name = \"a graph\"\n").unwrap();
    let places = Places { directories: vec![first.clone(), second.clone()] };
    let template = Template::find("slurm", &places).unwrap();
    assert_eq!(template.origins.len(), 3, "{:?}", template.origins);
    assert_eq!(template.origins[2], Origin::BuiltIn("slurm"));
    assert_eq!(template.value("queue").unwrap().text(), Some("first"));
    assert_eq!(template.values["account"].source, Source::File(second.join("slurm.toml"), 3));
    let names: Vec<String> = places.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["local", "pbs", "slurm", "torque"]);
}

#[test]
fn templates_that_extend_each_other_for_ever_are_refused() {
    let said = refusal("extends = \"./site.toml\"\n");
    assert!(said.contains("more than 8 templates extend each other"), "{said}");
}

#[test]
fn the_examples_of_sites_are_good_templates() {
    let typed: &[(&str, &str)] = &[("account", "p1"), ("walltime", "1h"), ("nodes", "10")];
    let project: &[(&str, &str)] = &[("project", "ab12"), ("walltime", "1h"), ("nodes", "2")];
    let sites =
        [("slurm/sites/perlmutter", typed), ("pbs/sites/polaris", typed), ("pbs/sites/gadi", project)];
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        for (site, typed) in sites {
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{site}.toml"))).unwrap();
            let request = ask(&text, typed).unwrap();
            limits::check(&request, 1, None).unwrap();
            insta::assert_snapshot!(site.replace('/', "_"), script(&request));
        }
    });
}

#[test]
fn a_site_that_forbids_memory_gets_no_line_for_it() {
    let request = ask(FORBIDS_MEMORY, &[]).unwrap();
    assert!(!script(&request).contains("mem"));
    let error = ask(FORBIDS_MEMORY, &[("memory", "4G")]).unwrap_err();
    assert!(error.why.contains("leaves `memory` out"), "{error}");
}

#[test]
fn a_site_that_demands_an_account_and_ntasks_gets_both_or_a_word() {
    let error = ask(DEMANDS_NTASKS, &[]).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("say it with `--account`, or in a template of your own"));
    let text = script(
        &ask(DEMANDS_NTASKS, &[("account", "a1"), ("nodes", "3"), ("workers_per_node", "2")]).unwrap(),
    );
    assert!(text.contains("\n#SBATCH --ntasks=6\n") && text.contains("\n#SBATCH --account=a1\n"), "{text}");
}

#[test]
fn a_site_without_select_counts_the_whole_job() {
    let text = script(&ask(TOTALS, &[("project", "ab12"), ("nodes", "3")]).unwrap());
    assert!(text.contains("\n#PBS -P ab12\n") && text.contains("\n#PBS -l ncpus=144\n"), "{text}");
    assert!(!text.contains("select"), "{text}");
}

#[test]
fn what_a_site_does_not_allow_is_said_before_it_is_asked() {
    let site = "extends = \"slurm\"\n[limits]\nwalltime_max = \"2h\"\nnodes_max = 4\nqueued_jobs_max = 10\n";
    let check_chain = |typed: &[(&str, &str)], jobs, queued| {
        limits::check(&ask(site, typed).unwrap(), jobs, queued).map_err(|error| error.to_string())
    };
    let check = |typed: &[(&str, &str)], queued| check_chain(typed, 1, queued);
    assert_eq!(check(&[("walltime", "2h"), ("nodes", "4")], None), Ok(()));
    assert_eq!(check_chain(&[], 3, Some(7)), Ok(()));
    assert_eq!(check(&[], Some(9)), Ok(()));
    // Nobody chose the margin of a minute: less of it is kept.
    assert_eq!(check(&[("walltime", "1:00")], None), Ok(()));
    let refused = [
        check(&[("walltime", "121")], None),
        check(&[("walltime", "1:00"), ("margin", "90s")], None),
        check(&[("nodes", "5")], None),
        check(&[], Some(10)),
        check_chain(&[], 3, Some(8)),
        check_chain(&[], 11, Some(0)),
    ];
    let said: Vec<String> = refused.into_iter().map(|refused| refused.unwrap_err()).collect();
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("beyond_the_limits", without_directories(&said.join("\n")));
    });
}

/// The directory of the test's template differs from run to run.
fn without_directories(text: &str) -> String {
    let named = text
        .split('`')
        .map(|part| part.rsplit('/').next().filter(|_| part.ends_with(".toml")).unwrap_or(part));
    named.collect::<Vec<_>>().join("`")
}

#[test]
fn a_template_of_ones_own_sees_the_same_values_and_its_faults_have_lines() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("site.toml");
    fs::write(&site, "extends = \"slurm\"\njob_script = \"my.sh.j2\"\nqueue = \"q\"\n").unwrap();
    let rendered = |text: &str| {
        fs::write(directory.path().join("my.sh.j2"), text).unwrap();
        let template = Template::find(site.to_str().unwrap(), &Places::default()).unwrap();
        let request = dagmar::launch::request::Request::new(&template, &[]).unwrap();
        dagmar::launch::script::render(&request, &super::asking::context())
            .map_err(|error| error.to_string().replace(&format!("{}/", directory.path().display()), ""))
    };
    assert_eq!(
        rendered("#!/bin/bash\n#SBATCH -p {{ queue }}\n{{ program | sh }} launch {{ run | sh }}\n").unwrap(),
        "#!/bin/bash\n#SBATCH -p q\n/opt/dagmar/bin/dagmar launch /home/ada/dagmar-runs/variants-0007\n"
    );
    assert_eq!(
        rendered("#!/bin/bash\n\n{{ quue }}\n").unwrap_err(),
        "cannot fill in the job-script template `my.sh.j2`, line 3: a name is used that has no value (`quue` is undefined)"
    );
    let broken = rendered("#!/bin/bash\n{% if %}\n").unwrap_err();
    assert!(broken.starts_with("cannot fill in the job-script template `my.sh.j2`, line 2: "), "{broken}");
}

#[test]
fn a_mark_is_written_whatever_a_site_leaves_out() {
    let site = "extends = \"slurm\"\ncomment = \"ours\"\nremove = [\"comment\"]\n";
    let text = script(&ask(site, &[]).unwrap());
    assert!(text.contains(&format!("\n#SBATCH --comment=\"{MARK}\"\n")), "{text}");
    for system in ["pbs", "torque"] {
        let removed = "remove = [\"environment.export\"]\n[environment]\nexport = [\"PATH\"]\n";
        let text = script(&ask(&format!("extends = \"{system}\"\n{removed}"), &[]).unwrap());
        assert!(text.contains(&format!("\n#PBS -v DAGMAR_SUBMISSION={MARK}\n")), "{text}");
    }
}
