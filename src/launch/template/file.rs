//! One template's text: names and shapes, each with its line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::launch::field::{FIELDS, Field, Kind};
use crate::launch::given::{Source, Value};

use super::TemplateError;

/// What a template's text says.
#[derive(Debug, Default)]
pub struct Content {
    /// The template it changes, and where it says so.
    pub extends: Option<(String, Source)>,
    /// Values by field.
    pub values: BTreeMap<&'static str, (Value, Source)>,
}

/// Makes a source of a line.
type At<'a> = &'a dyn Fn(usize) -> Source;

/// True if a file looks like a cluster template; graphs are TOML as well.
pub fn is_template(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    let Ok(document) = DeTable::parse(&text) else { return false };
    let table = document.get_ref();
    table.contains_key("extends") || table.contains_key("batch_system")
}

/// Reads a template.
pub fn parse(text: &str, at: At<'_>) -> Result<Content, TemplateError> {
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        TemplateError::Content(at(line), error.message().trim().replace('\n', ", "), None)
    })?;
    let mut reader = Reader { text, at, content: Content::default() };
    reader.table("", document.get_ref())?;
    Ok(reader.content)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    at: At<'a>,
    content: Content,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), TemplateError> {
        for (key, value) in table {
            let source = (self.at)(line_of(self.text, key.span().start));
            let name = format!("{prefix}{}", key.get_ref());
            self.entry(&name, value.get_ref(), source)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, value: &DeValue<'_>, source: Source) -> Result<(), TemplateError> {
        if name == "extends" {
            let Some(parent) = value.as_str() else {
                let why = "`extends` is not the name of a template".to_owned();
                return Err(TemplateError::Content(source, why, Some("write `extends = \"slurm\"`".into())));
            };
            self.content.extends = Some((parent.to_owned(), source));
            return Ok(());
        }
        if let (Some(field), false) = (Field::find(name), is_room(name)) {
            let shaped = shape(field.kind, value);
            let value = shaped.map_err(|shape| {
                TemplateError::Content(source.clone(), format!("`{name}` is not {shape}"), None)
            })?;
            if self.content.values.insert(field.name, (value, source.clone())).is_some() {
                let why = format!("`{}` is said twice, under two of its names", field.name);
                return Err(TemplateError::Content(source, why, None));
            }
            return Ok(());
        }
        match value {
            DeValue::Table(table) if is_room(name) => self.table(&format!("{name}."), table),
            _ => {
                let hint = Field::nearest(name).map(|near| format!("the nearest name is `{near}`"));
                let hint = hint.or_else(|| Some("`dagmar cluster show --fields` lists them".into()));
                Err(TemplateError::Content(source, format!("there is no field `{name}`"), hint))
            }
        }
    }
}

/// True for a table that only gathers fields: `launcher`, `limits`.
fn is_room(name: &str) -> bool {
    let prefix = format!("{name}.");
    FIELDS.iter().any(|field| field.name.starts_with(&prefix))
}

/// The value in the shape that its kind has, or the words for that shape.
fn shape(kind: Kind, value: &DeValue<'_>) -> Result<Value, &'static str> {
    let text = || value.as_str().map(|text| Value::Text(text.to_owned()));
    let count = || {
        let integer = value.as_integer()?;
        let count = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        count.map(Value::Count)
    };
    match kind {
        Kind::Count => count().ok_or("a whole number from 1 on"),
        Kind::Workers => count().or_else(text).ok_or("a whole number, `\"socket\"` or `\"gpu\"`"),
        Kind::Flag => value.as_bool().map(Value::Flag).ok_or("`true` or `false`"),
        // A bare number is minutes, as for `sbatch --time`.
        Kind::Time => {
            let minutes = count().map(|minutes| Value::Text(minutes.to_string()));
            minutes.or_else(text).ok_or("a time in quotes, or minutes as a whole number")
        }
        Kind::Variables => pairs(value).map(Value::Pairs).ok_or("a table of texts"),
        Kind::Amounts => amounts(value).map(Value::Amounts).ok_or("a table of whole numbers"),
        Kind::Words => list(value).map(Value::List).ok_or("a list of words"),
        kind if kind.is_list() => {
            let one = || value.as_str().map(|text| vec![text.to_owned()]);
            list(value).or_else(one).map(Value::List).ok_or("a list of texts")
        }
        _ => text().ok_or("a text in quotes"),
    }
}

fn list(value: &DeValue<'_>) -> Option<Vec<String>> {
    let array = value.as_array()?;
    array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

fn pairs(value: &DeValue<'_>) -> Option<BTreeMap<String, String>> {
    let table = value.as_table()?;
    let pair = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        Some((key.to_string(), value.get_ref().as_str()?.to_owned()))
    };
    table.iter().map(pair).collect()
}

fn amounts(value: &DeValue<'_>) -> Option<BTreeMap<String, u64>> {
    let table = value.as_table()?;
    let mut amounts = BTreeMap::new();
    for (key, value) in table {
        let integer = value.get_ref().as_integer()?;
        let count = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        amounts.insert(key.get_ref().to_string(), count);
    }
    Some(amounts)
}
