//! The layout that `buf format` gives: two spaces a level, nothing at line ends, sorted imports.

/// What is off, with its line number from 1.
pub(super) fn faults(text: &str) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    if !text.ends_with('\n') || text.ends_with("\n\n") {
        faults.push((
            text.lines().count(),
            "the file ends with one newline".to_owned(),
        ));
    }
    let (mut depth, mut continues, mut was_empty) = (0, false, true);
    let mut last_import = String::new();
    for (at, line) in text.split_terminator('\n').enumerate() {
        let mut fault = |what: String| faults.push((at + 1, what));
        if line.contains(['\t', '\r']) {
            fault("holds a tab or a carriage return".to_owned());
        }
        if line.ends_with(' ') {
            fault("ends in a space".to_owned());
        }
        if line.is_empty() && was_empty {
            fault("is empty after an empty line, or at the beginning".to_owned());
        }
        was_empty = line.is_empty();

        let code = code(line);
        if code.starts_with("import ") {
            if *code < *last_import {
                fault("imports are sorted".to_owned());
            }
            last_import = code.clone();
        }
        let closes = code.matches('}').count();
        let wanted =
            2 * (depth + usize::from(continues) - usize::from(code.starts_with('}')).min(depth));
        let indent = line.len() - line.trim_start_matches(' ').len();
        if !was_empty && indent != wanted {
            fault(format!("is indented by {indent} spaces and not {wanted}"));
        }
        depth = (depth + code.matches('{').count()).saturating_sub(closes);
        if !code.is_empty() {
            continues = !code.ends_with([';', '{', '}']);
        }
    }
    if depth != 0 {
        faults.push((text.lines().count(), format!("{depth} braces stay open")));
    }
    faults
}

/// A line without its comment, the contents of its strings and the spaces around it.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            '{' | '}' | ';' if in_string => continue,
            _ => {}
        }
        out.push(c);
    }
    out.trim().to_owned()
}

#[test]
fn every_kind_of_disorder_is_told() {
    let good = "import \"a.proto\";\nimport \"b.proto\";\n\n// What } it is.\nmessage A {\n  string a = 1; // {\n  oneof b {\n    int32 c =\n      2;\n  }\n}\n";
    assert_eq!(faults(good), []);
    let told = |from: &str, to: &str| {
        assert!(good.contains(from));
        faults(&good.replacen(from, to, 1))
    };
    for (from, to, line, what) in [
        ("  string", "    string", 6, "indented"),
        ("  string", "\tstring", 6, "tab"),
        ("c =\n", "c = \n", 8, "ends in a space"),
        ("      2;", "    2;", 9, "indented"),
        ("\n}\n", "\n  }\n", 11, "indented"),
        ("\n\n//", "\n\n\n//", 4, "empty"),
        ("\n}\n", "\n}\n\n", 12, "one newline"),
        ("\n}\n", "\n}", 11, "one newline"),
        ("\n}\n", "\n", 10, "stay open"),
        ("b.proto", "A.proto", 2, "sorted"),
    ] {
        let found = told(from, to);
        assert!(
            found
                .iter()
                .any(|(at, fault)| *at == line && fault.contains(what)),
            "{from:?} as {to:?} gave {found:?}"
        );
    }
}
