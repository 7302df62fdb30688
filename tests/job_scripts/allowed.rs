//! The converse of `injection`: what the documented rule of a kind allows is never refused.

use dagmar::launch::batch::System;
use dagmar::launch::given::{Given, Source, Value};
use dagmar::launch::request::Request;
use dagmar::launch::template::{Places, Template};

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";

fn one(random: &mut fastrand::Rng, letters: &str) -> char {
    char::from(letters.as_bytes()[random.usize(..letters.len())])
}

fn plain(random: &mut fastrand::Rng, first: &str, more: &str, length_max: usize) -> String {
    let rest = format!("{LETTERS}{DIGITS}{more}");
    let length = random.usize(..length_max);
    std::iter::once(one(random, first))
        .chain((0..length).map(|_| one(random, &rest)).collect::<Vec<_>>())
        .collect()
}

/// Any text without control characters, without those that readers disagree on, in so many bytes.
fn words(random: &mut fastrand::Rng, is_ascii: bool, bytes_max: usize) -> String {
    let mut text = String::from("x");
    let length = random.usize(..bytes_max);
    while text.len() < length {
        let letter = if is_ascii || random.bool() { random.char(' '..='~') } else { random.char(..) };
        if !letter.is_control() && !"\"\\$`".contains(letter) && text.len() + letter.len_utf8() <= bytes_max {
            text.push(letter);
        }
    }
    text
}

fn anything(random: &mut fastrand::Rng) -> String {
    (0..random.usize(1..60)).map(|_| random.char('\u{1}'..)).collect()
}

fn allowed(random: &mut fastrand::Rng, system: System, field: &str) -> Value {
    let is_slurm = system == System::Slurm;
    let word = format!("{LETTERS}{DIGITS}_");
    let text = match field {
        "name" => plain(random, LETTERS, "_.+-", if system == System::Torque { 15 } else { 200 }),
        "account" => plain(random, &word, "_.@:/+-", 255),
        "queue" | "mail.user" => plain(random, &word, "_.@:/+-,", 255),
        "comment" => words(random, false, 512),
        "stdout" | "stderr" => words(random, !is_slurm, 400),
        "scratch" => format!("/{}", words(random, false, 100)),
        "constraint" if is_slurm => "[rack1|rack2]&gpu*2&(a|b)".to_owned(),
        "constraint" => "model=rome:big=true".to_owned(),
        "dependency" if is_slurm => format!("afterok:{}:7_3,afterany:9", random.u32(..)),
        "dependency" => format!("afterok:{}.server-1,afterany:9[].x", random.u32(..)),
        "walltime" => format!("{}-{}:{:02}:00", random.u8(..30), random.u8(1..24), random.u8(..60)),
        "memory" => format!("{}{}", random.u16(1..), ["GB", "GiB", "M", "TB", "kB"][random.usize(..5)]),
        "directives" => return Value::List(vec![format!("-{}", words(random, false, 400))]),
        "modules" => return Value::List(vec![plain(random, &word, "_.@:/+=~-", 100)]),
        "prologue" | "launcher.args" | "prefix" | "commands.submit" => {
            return Value::List(vec![anything(random), String::new(), anything(random)]);
        }
        "environment.variables" => return Value::Pairs([("A_1".to_owned(), anything(random))].into()),
        other => panic!("no rule for {other}"),
    };
    Value::Text(text)
}

#[test]
fn what_the_rules_allow_is_never_refused() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let fields = [
        "name",
        "account",
        "queue",
        "mail.user",
        "comment",
        "stdout",
        "stderr",
        "scratch",
        "constraint",
        "dependency",
        "walltime",
        "memory",
        "directives",
        "modules",
        "prologue",
        "launcher.args",
        "prefix",
        "commands.submit",
        "environment.variables",
    ];
    for system in [System::Slurm, System::Pbs, System::Torque] {
        let template = Template::find(system.name(), &Places::default()).unwrap();
        for field in fields.iter().filter(|field| system == System::Slurm || **field != "comment") {
            for _ in 0..200 {
                let value = allowed(&mut random, system, field);
                let mut said = template.clone();
                said.values
                    .insert(field, Given { value: value.clone(), source: Source::Own("the test"), layer: 9 });
                let request = Request::new(&said, &[]);
                request.unwrap_or_else(|error| panic!("{error}\n{value:?}"));
            }
        }
    }
}
