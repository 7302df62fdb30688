//! Times and sizes as users of batch systems write them.
//!
//! Times: `2h`, `90m`, `1h 30m`, and what `sbatch --time` takes: `90` (minutes), `90:00`, `1:30:00`,
//! `1-12`, `1-12:30`, `1-12:30:00`. Sizes: `64GB` is decimal; `64GiB`, `64G` and `64g` are binary, as
//! batch systems count.

/// Seconds that `text` stands for.
pub fn seconds(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let total = if text.contains('-') || text.contains(':') {
        clock_seconds(text)
    } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        number(text).and_then(|minutes| minutes.checked_mul(60))
    } else {
        spoken_seconds(text)
    };
    match total {
        Some(0) => Err("it is no time at all".into()),
        Some(seconds) if seconds <= SECONDS_MAX => Ok(seconds),
        Some(_) => Err("it is longer than ten years".into()),
        None => Err("it is no time".into()),
    }
}

/// Longer requests are slips of the fingers.
const SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// `H:M:S` as all batch systems take it, with hours above 24 where need be.
pub fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[days-]hours:minutes:seconds` and its shorter forms, as Slurm reads them.
fn clock_seconds(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let seconds = match (days, parts.as_slice()) {
        (Some(_), [hours]) => hours.checked_mul(3600)?,
        (Some(_), [hours, minutes]) => hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?,
        (None, [minutes, seconds]) => minutes.checked_mul(60)?.checked_add(*seconds)?,
        (_, [hours, minutes, seconds]) => {
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(*seconds)?
        }
        _ => return None,
    };
    days.unwrap_or(0).checked_mul(86_400)?.checked_add(seconds)
}

/// Numbers with units, one after the other.
fn spoken_seconds(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[digits..digits + letters] {
            "s" | "sec" | "seconds" => 1,
            "m" | "min" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            _ => return None,
        };
        total = total.checked_add(number(&rest[..digits])?.checked_mul(unit)?)?;
        rest = rest[digits + letters..].trim_start();
    }
    Some(total)
}

/// Bytes that `text` stands for.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match text[digits..].trim_start() {
        "B" | "b" => 1,
        "kB" | "KB" | "kb" => 1000,
        "MB" | "mb" => 1_000_000,
        "GB" | "gb" => 1_000_000_000,
        "TB" | "tb" => 1_000_000_000_000,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" | "m" => 1 << 20,
        "GiB" | "G" | "g" => 1 << 30,
        "TiB" | "T" | "t" => 1 << 40,
        _ => return Err("it is no size".into()),
    };
    match number(&text[..digits]).and_then(|count| count.checked_mul(unit)) {
        Some(0) => Err("it is no memory at all".into()),
        Some(bytes) if bytes <= 1 << 60 => Ok(bytes),
        Some(_) => Err("it is more than any machine has".into()),
        None => Err("it is no size".into()),
    }
}

/// Whole mebibytes that hold this many bytes.
pub const fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Digits and nothing else: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_slurm_write_them() {
        let check = |text, expected: u64| assert_eq!(seconds(text), Ok(expected), "{text}");
        check("2h", 7200);
        check("90m", 5400);
        check("1h30m", 5400);
        check("1d 12h", 129_600);
        check("30", 1800);
        check("30:15", 1815);
        check("1:30:00", 5400);
        check("100:00:00", 360_000);
        check("1-12", 129_600);
        check("1-12:30", 131_400);
        check("1-12:00:00", 129_600);
        for wrong in ["", "0", "-5", "1:2:3:4", "h", "2x", "1.5h", "+3", "1-", "99999999999999999999", "é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_round_up_to_what_batch_systems_count() {
        let check = |text, expected: u64| assert_eq!(bytes(text).map(mebibytes), Ok(expected), "{text}");
        check("64GiB", 65_536);
        check("64G", 65_536);
        check("28GB", 26_703);
        check("1B", 1);
        check("100 MB", 96);
        for wrong in ["", "64", "G", "0G", "-1G", "1.5G", "1GG", "99999999999999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_has_two_digits_each() {
        assert_eq!(clock(360_061), "100:01:01");
    }
}
