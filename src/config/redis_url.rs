//! The URL of Redis: is it one, and how is it shown without its password.
//!
//! In: text. Out: nothing but a verdict, and a text that is safe to print. The Redis client parses
//! the URL itself; the same parser is asked here, so that what passes will connect.

use redis::IntoConnectionInfo;

use super::database_url::hide_parameters;

/// Is this a URL that the Redis client understands? The reason never quotes the URL.
pub fn check(text: &str) -> Result<(), String> {
    if !text.contains("://") {
        return Err("is not a URL".to_owned());
    }
    match text.into_connection_info() {
        Ok(_) => Ok(()),
        // The client's reasons are fixed sentences ("Missing hostname"), without the URL.
        Err(error) => Err(match error.detail() {
            Some(detail) => format!("cannot be used: {}", detail.to_lowercase()),
            None => format!("cannot be used: {}", error.to_string().to_lowercase()),
        }),
    }
}

/// The URL with its password replaced. Only for URLs that passed [`check`].
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return "***".to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or(("***", ""));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{}", hide_parameters(path, &["pass", "password"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_redis_are_told_from_others() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://:secret@localhost/0",
            "rediss://user:secret@cache.example:6380/1",
            "unix:///run/redis/redis.sock?pass=secret",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis://h:secret",
            "redis://h/secret",
        ] {
            let reason = check(url).unwrap_err();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:secret@h", "redis://:***@h"),
            ("rediss://u:se@cret@h:1/2", "rediss://u:***@h:1/2"),
            ("unix:///run/r.sock?db=1&pass=secret", "unix:///run/r.sock?db=1&pass=***"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
