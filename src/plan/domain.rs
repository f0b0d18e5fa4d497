//! Domains as people write them, and when two of them are the same. Pure.
//!
//! A wrong match writes to another company; a missed match only shows as `not_found`. So a text counts as a domain only
//! if it can be read in one way; see `docs/design/2026-11-29-domains.md`.

use std::borrow::Cow;

use url::Host;

const SCHEMES: [&str; 3] = ["https://", "http://", "//"];
const WWW: &str = "www.";
/// Pages and anchors that a site has about itself. Any other page may be about another company: a hotel of a chain, the
/// department of a university, the profile on a network.
const OWN_PAGES: [&str; 13] = [
    "index",
    "home",
    "default",
    "start",
    "en",
    "about",
    "about-us",
    "about_us",
    "aboutus",
    "contact",
    "contact-us",
    "contact_us",
    "contactus",
];
const FILE_ENDINGS: [&str; 6] = [".html", ".htm", ".php", ".aspx", ".asp", ".jsp"];
/// Parameters that only say where a visitor came from, besides `utm_…`.
const TRACKING: [&str; 3] = ["gclid", "fbclid", "msclkid"];
/// What stands before a country where domains are registered below it, as in `co.uk`: `www.co.uk` is not the site
/// `co.uk`.
const SECOND_LEVELS: [&str; 10] = ["ac", "co", "com", "edu", "gob", "gov", "ne", "net", "or", "org"];
/// The longest label of a domain, and the longest domain.
const LONGEST_LABEL: usize = 63;
const LONGEST_DOMAIN: usize = 253;

/// Returns the key by which domains are compared: two texts are for the same site if their keys are equal.
///
/// Letter case, white space around it, `http://` and `https://`, a port, one leading `www.`, a trailing dot, a path
/// such as `/` or `/about`, and punycode instead of Unicode make no difference. A path to any other page is a part of
/// the key, in its letter case. Text that is not a domain, or that can be read in several ways, is its own key, in
/// lower case.
///
/// # Examples
/// ```
/// use replyio::plan::domain_key;
///
/// assert_eq!(domain_key("https://www.Bücher.example/about/"), "xn--bcher-kva.example");
/// assert_eq!(domain_key("http://Hotels.example/Oslo/"), "hotels.example/Oslo");
/// assert_eq!(domain_key("info@acme.com"), "info@acme.com");
/// ```
pub fn domain_key(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    // Most texts are already in the form that is compared.
    if text.bytes().all(is_plain) && !text.starts_with(WWW) && !text.ends_with('.') && !text.contains("xn--") {
        return Cow::Borrowed(text);
    }
    Cow::Owned(read(text).map_or_else(|| in_lower_case(text), |(host, page)| host + &page))
}

/// Whether a text is the address of a page that may be about another company than the site.
pub(super) fn names_a_page(text: &str) -> bool {
    read(text.trim()).is_some_and(|(_, page)| !page.is_empty())
}

/// Lowers each character by itself: `str::to_lowercase` writes the last sigma of a word as another letter, and a domain
/// with that letter is another one.
fn in_lower_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Returns the possible beginnings of a domain's key if only the beginning of the domain is known.
pub(super) fn key_beginnings(text: &str) -> Vec<Cow<'_, str>> {
    // One more character can change the key of its whole label.
    if !text.is_ascii() {
        return vec![Cow::Borrowed("")];
    }
    let text = text.trim().to_ascii_lowercase();
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.unwrap_or(&text);
    let is_host = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
    let host = rest.split(|character: char| !is_host(character)).next().unwrap_or_default();
    let is_open = host.len() == rest.len();
    if SCHEMES.iter().any(|scheme| scheme.starts_with(&text)) || (is_open && WWW.starts_with(host)) {
        return vec![Cow::Borrowed("")];
    }
    let mut beginnings = vec![text.clone()];
    let bare = host.strip_prefix(WWW);
    for host in [Some(host), bare].into_iter().flatten() {
        let host_alone = host.trim_end_matches('.');
        if host_alone != text {
            beginnings.push(host_alone.to_owned());
        }
        if is_open {
            let labels = host.rfind('.').map_or("", |dot| host.get(..=dot).unwrap_or_default());
            beginnings.push(format!("{labels}xn--"));
        }
    }
    beginnings.into_iter().map(Cow::Owned).collect()
}

/// The host in an address, in lower case, and what else of it is significant. The letter case of that counts: a service
/// for short links gives `/AbC` and `/aBc` to two companies.
fn read(text: &str) -> Option<(String, String)> {
    if text.contains(|character: char| character.is_whitespace() || character.is_control() || character == '\\') {
        return None;
    }
    let behind = |scheme: &str| {
        text.split_at_checked(scheme.len())
            .filter(|(found, _)| found.eq_ignore_ascii_case(scheme))
            .map(|(_, rest)| rest)
    };
    let rest = SCHEMES.iter().find_map(|scheme| behind(scheme)).unwrap_or(text);
    let (host, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host_key(&in_lower_case(host))?;
    if is_own_page(&in_lower_case(rest)) {
        return Some((host, String::new()));
    }
    let page = if rest.contains(['?', '#']) { rest } else { rest.trim_end_matches('/') };
    let slash = if page.starts_with('/') { "" } else { "/" };
    Some((host, format!("{slash}{page}")))
}

fn host_key(host: &str) -> Option<String> {
    let host = match host.split_once(':') {
        None => host,
        Some((host, port)) => {
            (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()).then_some(host)?
        }
    };
    // `Host` decodes %2e, which no one writes in a domain.
    if host.contains('%') {
        return None;
    }
    let Ok(Host::Domain(domain)) = Host::parse(host) else { return None };
    let domain = domain.strip_suffix('.').unwrap_or(&domain);
    if !is_domain(domain) {
        return None;
    }
    let bare = domain.strip_prefix(WWW).filter(|bare| !bare.starts_with(WWW) && is_domain(bare) && !is_registry(bare));
    Some(bare.unwrap_or(domain).to_owned())
}

/// Whether a name in ASCII can be registered: at least two labels of letters, digits and hyphens.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= LONGEST_DOMAIN && name.contains('.') && name.split('.').all(is_label)
}

fn is_registry(domain: &str) -> bool {
    domain.split_once('.').is_some_and(|(second, top)| top.len() == 2 && SECOND_LEVELS.contains(&second))
}

/// Whether a path with its query and its anchor, in lower case, leads to a page that a site has about itself.
fn is_own_page(rest: &str) -> bool {
    let (rest, anchor) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_own = |name: &str| name.is_empty() || OWN_PAGES.contains(&name);
    let without_ending = |name| FILE_ENDINGS.iter().find_map(|ending| str::strip_suffix(name, ending)).unwrap_or(name);
    let says_nothing = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        parameter.is_empty() || name.starts_with("utm_") || TRACKING.contains(&name)
    };
    path.split('/').map(without_ending).all(is_own) && query.split('&').all(says_nothing) && is_own(anchor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ways_to_write_a_domain_make_no_difference() {
        for text in [
            "acme.com",
            "ACME.com",
            " acme.com\u{a0}\n",
            "acme.com.",
            "www.acme.com",
            "WWW.Acme.com.",
            "http://acme.com",
            "HTTPS://www.acme.com/",
            "//acme.com",
            "acme.com:8080",
            "https://acme.com:443/About-Us/?utm_source=a&utm_medium=b&gclid=c#contact",
            "acme.com/index.html",
            "acme.com/en/contact.php",
            "acme.com?utm_source=newsletter",
            "ａｃｍｅ.com",
            "acme。com",
        ] {
            assert_eq!(domain_key(text), "acme.com", "{text}");
        }
        for text in ["bücher.example", "www.BÜCHER.example/", "bu\u{308}cher.example", "XN--BCHER-KVA.example"] {
            assert_eq!(domain_key(text), "xn--bcher-kva.example", "{text}");
        }
    }

    #[test]
    fn a_capital_sigma_is_never_a_final_one() {
        assert_eq!(domain_key("ΦΩΣ-ΑΒΓ.gr"), domain_key("φωσ-αβγ.gr"));
        assert_ne!(domain_key("ΦΩΣ-ΑΒΓ.gr"), domain_key("φως-αβγ.gr"));
    }

    #[test]
    fn other_sites_stay_others() {
        let all = [
            "acme.com",
            "acme.co",
            "acme.com.au",
            "acme.comm",
            "www.com",
            "com",
            "wwwacme.com",
            "www2.acme.com",
            "shop.acme.com",
            "www.shop.acme.com.no",
            "www.www.acme.com",
            "m.acme.com",
            "acme-.com",
            "acme..com",
            "acme.com..",
            ".acme.com",
            "user@acme.com",
            "http://user:pass@acme.com",
            "http://acme.com@evil.com",
            "mailto:info@acme.com",
            "ftp://acme.com",
            "http:acme.com",
            "http:///acme.com",
            "http://http://acme.com",
            "acme.com:",
            "acme.com:99999",
            "acme.com:+80",
            "acme.com\\evil.com",
            "acme%2ecom",
            "acme.com,acme.no",
            "acme.com acme.no",
            "acme com",
            "acme_com",
            "_acme.com",
            "[::1]",
            "http://[::1]/",
            "127.0.0.1",
            "http://127.0.0.1/",
            "0x7f.1",
            "2130706433",
            "аcme.com",
            "straße.example",
            "strasse.example",
            "xn--a.example",
            "xn--zzzz\u{fc}.com",
            "www.co.uk",
            "co.uk",
        ];
        for (index, left) in all.iter().enumerate() {
            for right in all.iter().skip(index + 1) {
                assert_ne!(domain_key(left), domain_key(right), "{left} {right}");
            }
        }
        assert_eq!(domain_key("www.com"), "www.com");
        assert_eq!(domain_key("www.acme.co.uk"), "acme.co.uk");
    }

    #[test]
    fn a_page_that_may_be_about_another_company_is_not_its_site() {
        for (text, key) in [
            ("HTTPS://www.LinkedIn.com/company/Acme/", "linkedin.com/company/Acme"),
            ("https://maps.example/AbC", "maps.example/AbC"),
            ("https://maps.example/aBc", "maps.example/aBc"),
            ("hotels.example/oslo", "hotels.example/oslo"),
            ("https://maps.example/?cid=1", "maps.example/?cid=1"),
            ("https://maps.example?cid=1", "maps.example/?cid=1"),
            ("https://maps.example/?=1", "maps.example/?=1"),
            ("https://crm.example/#/accounts/1", "crm.example/#/accounts/1"),
            ("https://list.example/index.php?id=5", "list.example/index.php?id=5"),
            ("https://acme.com/no", "acme.com/no"),
            ("https://medium.example/@acme", "medium.example/@acme"),
        ] {
            assert_eq!(domain_key(text), key);
            assert!(names_a_page(text), "{text}");
        }
        for text in ["acme.com/", "https://acme.com/about", "acme.com", "Acme AS", "user@acme.com/oslo"] {
            assert!(!names_a_page(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_domain_is_compared_in_lower_case() {
        for (text, key) in [
            ("Acme AS", "acme as"),
            ("Acme", "acme"),
            ("http://Acme", "http://acme"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("http://", "http://"),
            ("Info@Acme.com", "info@acme.com"),
            (" ", ""),
        ] {
            assert_eq!(domain_key(text), key);
        }
    }

    /// Hosts, and the ways in which people write them.
    fn written() -> impl Strategy<Value = (String, String)> {
        let label = "[a-z0-9æøåüéßж中]{1,9}";
        let host = (proptest::collection::vec(label, 1..4), "com|no|co\\.uk|example|中国")
            .prop_map(|(labels, top)| format!("{}.{top}", labels.join(".")))
            .prop_filter("www. is left out once", |host| !host.starts_with(WWW));
        let front = prop_oneof![Just(""), Just("http://"), Just("https://"), Just("//")];
        let back =
            prop_oneof![Just(""), Just("."), Just(":80"), Just("/"), Just("/about"), Just("/index.html?utm_id=1#home")];
        let around = prop_oneof![Just(""), Just(" "), Just("\t\u{a0}")];
        (host, front, any::<bool>(), back, around, any::<bool>()).prop_map(|(host, front, www, back, around, upper)| {
            let www = if www { WWW } else { "" };
            let text = format!("{around}{front}{www}{host}{back}{around}");
            // ß in capitals is SS, which is another domain.
            (host.clone(), if upper && !host.contains('ß') { text.to_uppercase() } else { text })
        })
    }

    /// Texts that look like addresses, and others.
    fn anything() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[a-zA-Z0-9.:/?#@%_\\-\\\\ ]{0,6}",
            "https?://|www\\.|xn--|acme\\.com|//|\\.|/|co\\.uk|utm_a=b",
            "[üßİΣς\u{301}\u{338}\u{ad}。．℀ⅷＷ]{1,2}",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_way_to_write_a_domain_has_its_key((host, text) in written()) {
            prop_assert_eq!(domain_key(&text), domain_key(&host));
        }

        #[test]
        fn a_key_is_its_own_key(text in anything()) {
            let key = domain_key(&text);
            prop_assert_eq!(domain_key(&key), key.clone());
        }

        #[test]
        fn two_hosts_have_two_keys((one, text) in written(), (other, _) in written()) {
            let idn = |host: &str| Host::parse(host).map(|host| host.to_string());
            if let (Ok(one), Ok(other)) = (idn(&one), idn(&other)) && one != other {
                prop_assert_ne!(domain_key(&text), domain_key(&other));
            }
        }

        #[test]
        fn the_beginning_of_a_text_tells_how_its_key_may_begin(
            text in prop_oneof![anything(), written().prop_map(|written| written.1)],
            at in any::<prop::sample::Index>(),
        ) {
            let ends: Vec<usize> = text.char_indices().map(|(end, _)| end).chain([text.len()]).collect();
            let cut = &text[..*at.get(&ends)];
            let key = domain_key(&text);
            let is_told = key_beginnings(cut).iter().any(|beginning| key.starts_with(beginning.as_ref()));
            prop_assert!(is_told, "{cut:?} {key:?}");
        }
    }
}
