//! A site's template and what is typed, up to a script.

use std::fs;
use std::path::Path;

use dagmar::launch::given::Typed;
use dagmar::launch::request::{Request, RequestError};
use dagmar::launch::script::{ScriptContext, render};
use dagmar::launch::template::{Places, Template};

pub const MARK: &str = "dagmar-0123456789abcdef";
pub const RUN: &str = "/home/ada/dagmar-runs/variants-0007";

/// A site, and what somebody types there.
pub struct Case {
    pub name: &'static str,
    pub site: &'static str,
    /// Pairs of a field and a text.
    pub typed: &'static [(&'static str, &'static str)],
}

pub struct Asked {
    pub request: Request,
}

impl Asked {
    pub fn of(case: &Case) -> Asked {
        let request = ask(case.site, case.typed).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        Asked { request }
    }

    pub fn script(&self) -> String {
        script(&self.request)
    }
}

/// The template of this text, as if it stood in a file.
pub fn template(site: &str) -> Template {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.toml");
    fs::write(&path, site).unwrap();
    Template::find(path.to_str().unwrap(), &Places::default())
        .unwrap_or_else(|error| panic!("{error}: {site}"))
}

pub fn ask(site: &str, typed: &[(&str, &str)]) -> Result<Request, RequestError> {
    let typed: Vec<Typed> =
        typed.iter().map(|(field, text)| Typed::new(*field, *text, format!("--set {field}=..."))).collect();
    Request::new(&template(site), &typed)
}

pub fn context() -> ScriptContext<'static> {
    ScriptContext {
        run: Path::new(RUN),
        program: Path::new("/opt/dagmar/bin/dagmar"),
        name: "variants-0007",
        mark: MARK,
    }
}

pub fn script(request: &Request) -> String {
    render(request, &context()).unwrap_or_else(|error| panic!("{error}"))
}
