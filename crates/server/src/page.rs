//! Lists in pages, after <https://google.aip.dev/158>: tokens are opaque and belong to their request.

use flowstone_broker::Error;

use crate::fields::invalid;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;

/// One page of a list that is ordered by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// What the token must have been made for: the method and every field that chooses what is listed.
    request: String,
    /// The page begins behind this name.
    pub(crate) after: Option<String>,
    size: usize,
}

impl Page {
    /// Reads the fields of a list request. `request` names what is listed.
    pub(crate) fn new(request: String, page_size: i32, page_token: &str) -> Result<Self, Error> {
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => {
                return Err(invalid(
                    "page_size",
                    format!("{page_size} is negative; 0 stands for 100"),
                ));
            }
        };
        let after = match page_token {
            "" => None,
            token => Some(name_in(token, &request).ok_or_else(|| {
                invalid(
                    "page_token",
                    "not a token of this request: send `next_page_token` of the page before, with all \
                     other fields as they were",
                )
            })?),
        };
        Ok(Self {
            request,
            after,
            size,
        })
    }

    /// How many to ask for: one more than the page holds, to know whether there is another page.
    pub(crate) fn limit(&self) -> usize {
        self.size + 1
    }

    /// Cuts what was found to the page and tells the next one's token, empty at the end.
    pub(crate) fn cut<T>(&self, found: &mut Vec<T>, name: impl Fn(&T) -> &str) -> String {
        if found.len() <= self.size {
            return String::new();
        }
        found.truncate(self.size);
        let last = found.last().map(name).unwrap_or_default();
        let token = made_for(&self.request) + last;
        token.bytes().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a token begins with: the request that it belongs to, with its length so that no other request
/// begins the same.
fn made_for(request: &str) -> String {
    format!("{}:{request}", request.len())
}

/// The name that a token stands at, if it was made for this request.
fn name_in(token: &str, request: &str) -> Option<String> {
    if !token.is_ascii() || !token.len().is_multiple_of(2) {
        return None;
    }
    let bytes = (0..token.len()).step_by(2);
    let bytes: Option<Vec<u8>> = bytes
        .map(|at| u8::from_str_radix(&token[at..at + 2], 16).ok())
        .collect();
    let text = String::from_utf8(bytes?).ok()?;
    text.strip_prefix(&made_for(request)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str) -> Result<Page, Error> {
        Page::new("topics\nvis".to_owned(), size, token)
    }

    fn refused(result: Result<Page, Error>) -> String {
        match result.expect_err("refused") {
            Error::InvalidField { field, .. } => field,
            other => panic!("expected InvalidField, got {other:?}"),
        }
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let names: Vec<String> = (0..7).map(|n| format!("visits-ä{n}")).collect();
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let page = page(3, &token).expect("valid");
            let mut found: Vec<String> = names
                .iter()
                .filter(|name| page.after.as_ref().is_none_or(|after| *name > after))
                .take(page.limit())
                .cloned()
                .collect();
            token = page.cut(&mut found, |name| name);
            assert!(found.len() <= 3);
            seen.extend(found);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn sizes_have_a_default_and_an_upper_bound() {
        assert_eq!(page(0, "").expect("valid").limit(), 101);
        assert_eq!(page(1_000_000, "").expect("valid").limit(), 1_001);
        assert_eq!(page(1, "").expect("valid").limit(), 2);
        assert_eq!(refused(page(-1, "")), "page_size");
    }

    #[test]
    fn a_token_of_another_request_or_of_nobody_is_refused() {
        let token = page(1, "")
            .expect("valid")
            .cut(&mut vec!["a", "b"], |name| name);
        assert_eq!(
            page(9, &token).expect("its own").after.as_deref(),
            Some("a")
        );
        let other = Page::new("topics\nother".to_owned(), 1, &token);
        assert_eq!(refused(other), "page_token");
        for token in ["x", "zz", "é", "00", "ff0a61", &token[2..], "+1+1"] {
            assert_eq!(refused(page(1, token)), "page_token", "{token}");
        }
    }
}
