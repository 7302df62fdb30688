//! The table of fields in `docs/clusters.md` is the table in the code.

use std::env;
use std::fs;
use std::path::Path;

use dagmar::launch::batch::System;
use dagmar::launch::field::{FIELDS, Field, Spelling};

const BEGIN: &str = "<!-- the table of fields: begin -->\n";
const END: &str = "<!-- the table of fields: end -->";

fn cell(field: &Field, system: System) -> String {
    match field.spelling(system) {
        Spelling::Line("as it is") => "as it is".into(),
        Spelling::Line(option) => format!("`{option}`"),
        Spelling::Silent => String::new(),
        Spelling::Unknown => "-".into(),
    }
}

fn table() -> String {
    let head = "| field | what it says | Slurm | PBS | Torque |\n|---|---|---|---|---|\n".to_owned();
    FIELDS.iter().fold(head, |text, field| {
        let cells = [System::Slurm, System::Pbs, System::Torque].map(|system| cell(field, system));
        format!("{text}| `{}` | {} | {} |\n", field.name, field.doc, cells.join(" | "))
    })
}

#[test]
fn the_documented_fields_are_the_fields() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clusters.md");
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(BEGIN).expect("the page has the table") + BEGIN.len();
    let end = text.find(END).expect("the table ends");
    if env::var_os("DAGMAR_BLESS").is_some() {
        fs::write(&path, format!("{}{}{}", &text[..start], table(), &text[end..])).unwrap();
        return;
    }
    assert_eq!(
        &text[start..end],
        table(),
        "`DAGMAR_BLESS=1 cargo test --test job_scripts documented` writes it"
    );
}
