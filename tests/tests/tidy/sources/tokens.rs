//! Rust sources as flat lists of words, without comments, strings and `#[cfg(test)]` modules.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A word, or a character of punctuation.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The tokens of a file; `path` is for the message when it is not Rust.
pub(super) fn tokens(path: &str, text: &str) -> Vec<Token> {
    let stream: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut out = Vec::new();
    flatten(stream, &mut out);
    out
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    // Set between `#[cfg(test)]` and the end of the item that it stands before.
    let mut in_test_item = false;
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                if !in_test_item {
                    flatten_group(&group, line, out);
                }
                in_test_item &= !is_body;
            }
            TokenTree::Ident(ident) if !in_test_item => out.push(Token {
                text: ident.to_string(),
                line,
            }),
            TokenTree::Punct(punct) => {
                let begins_attribute = punct.as_char() == '#' && punct.spacing() == Spacing::Alone;
                if begins_attribute && trees.peek().is_some_and(is_cfg_test) {
                    in_test_item = true;
                } else if punct.as_char() == ';' {
                    in_test_item = false;
                }
                if !in_test_item {
                    out.push(Token {
                        text: punct.as_char().to_string(),
                        line,
                    });
                }
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn flatten_group(group: &Group, line: usize, out: &mut Vec<Token>) {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    };
    out.push(Token {
        text: open.to_owned(),
        line,
    });
    flatten(group.stream(), out);
    out.push(Token {
        text: close.to_owned(),
        line: group.span_close().start().line,
    });
}

fn is_cfg_test(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The modules named right behind `std::`, also those in braces.
pub(super) fn std_modules(tokens: &[Token]) -> impl Iterator<Item = Token> {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let after_std =
        (0..tokens.len()).filter(move |at| is(*at, "std") && is(at + 1, ":") && is(at + 2, ":"));
    after_std.flat_map(move |at| {
        if is(at + 3, "{") {
            braced(&tokens[at + 4..])
        } else {
            tokens[at + 3..at + 4].to_vec()
        }
    })
}

/// The first word of each entry of a list that its closing brace ends.
fn braced(tokens: &[Token]) -> Vec<Token> {
    let mut first_words = Vec::new();
    let (mut depth, mut first) = (0, true);
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => first = true,
            _ if depth == 0 && first => {
                first_words.push(token.clone());
                first = false;
            }
            _ => {}
        }
    }
    first_words
}

#[test]
fn words_are_found_in_code_alone() {
    let text = r##"
        //! unsafe
        /// unsafe
        fn f() { /* unsafe */ let _ = ("unsafe", r#"unsafe"#, 'u'); }
        fn g() { unsafe {} }
        #[cfg(test)]
        mod tests { unsafe fn h() {} }
        #[cfg(test)]
        use unsafe_one;
        fn i() {}
    "##;
    let found: Vec<usize> = tokens("f.rs", text)
        .iter()
        .filter(|token| token.text == "unsafe")
        .map(|token| token.line)
        .collect();
    assert_eq!(found, [5]);
    assert!(
        tokens("f.rs", text).iter().any(|token| token.text == "i"),
        "what follows a test item is read"
    );
}

#[test]
fn modules_of_std_are_found_alone_and_in_braces() {
    let text = "use std::fs::File; use std::{io, time::{Duration, fs2}, net}; fn f() { ::std::env::args(); }";
    let found: Vec<String> = std_modules(&tokens("f.rs", text))
        .map(|module| module.text)
        .collect();
    assert_eq!(found, ["fs", "io", "time", "net", "env"]);
}
