//! Topics of MQTT brokers: their addresses, and how the brokers are entered.
//!
//! `mqtts://` is TLS 1.3 to a broker whose certificate is of a named authority and for the name in
//! the address. A password is never part of an address, which others can read in the list of
//! processes, and crosses no network in clear.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{MqttOptions, TlsConfiguration, Transport, valid_filter, valid_topic};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::error::WireError;

/// Port without encryption.
const PORT: u16 = 1883;
/// Port with encryption.
const TLS_PORT: u16 = 8883;
/// What an address looks like.
const ADDRESS: &str = "mqtt[s]://[user@]host[:port]/topic";
const NO_PASSWORD: &str = "an address without a password, which comes from --mqtt-password-file";
const PASSWORD: &str = "a password for the user, from --mqtt-password-file";
const ENCRYPTED: &str = "mqtts:// for a user: the password would cross the network in clear";
const AUTHORITY: &str = "the broker's authority for mqtts://, from --mqtt-ca";
const FILTER: &str = "wild cards that are whole levels, and # at the end only";
const PLAIN: &str = "a topic without wild cards and without / at its end";
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How brokers are entered: the same for all of a service.
#[derive(Clone, Default)]
pub struct Access {
    /// For addresses with a user.
    pub password: Option<Zeroizing<String>>,
    /// For `mqtts://`.
    pub tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (password, tls) = (self.password.is_some(), self.tls.is_some());
        write!(out, "Access(password: {password}, tls: {tls})")
    }
}

/// A topic of a broker, with what the broker wants to see.
#[derive(Clone)]
pub struct Topic {
    url: String,
    host: String,
    port: u16,
    name: String,
    login: Option<(String, Zeroizing<String>)>,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Topic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Topic({})", self.url)
    }
}

impl Topic {
    /// A topic to subscribe to, with or without wild cards: `mqtt[s]://[user@]host[:port]/topic`.
    ///
    /// # Errors
    /// [`WireError::MqttAddress`], also for `mqtts://` without an authority, a user without a
    /// password, a user on another machine without TLS, and a password in the address.
    pub fn for_subscriber(url: &str, access: &Access) -> Result<Self, WireError> {
        let topic = Self::new(url, access)?;
        let good = valid_filter(&topic.name);
        topic.check(good, FILTER)
    }

    /// A topic to publish under: levels may be added to it.
    ///
    /// # Errors
    /// As [`Topic::for_subscriber`], and for wild cards.
    pub fn for_publisher(url: &str, access: &Access) -> Result<Self, WireError> {
        let topic = Self::new(url, access)?;
        let plain = valid_topic(&topic.name) && !topic.name.ends_with('/');
        topic.check(plain, PLAIN)
    }

    fn new(url: &str, access: &Access) -> Result<Self, WireError> {
        let refused = |expected| refused(url, expected);
        let address = parse(url).map_err(refused)?;
        if address.user.is_some() && !address.tls && !is_loopback(address.host) {
            return Err(refused(ENCRYPTED));
        }
        let login = |user: &str| match &access.password {
            Some(password) => Ok((user.to_string(), password.clone())),
            None => Err(refused(PASSWORD)),
        };
        let login = address.user.map(login).transpose()?;
        let tls = match address.tls {
            true => Some(access.tls.clone().ok_or_else(|| refused(AUTHORITY))?),
            false => None,
        };
        Ok(Self {
            url: url.to_string(),
            host: address.host.to_string(),
            port: address.port,
            name: address.topic.to_string(),
            login,
            tls,
        })
    }

    fn check(self, good: bool, expected: &'static str) -> Result<Self, WireError> {
        match good {
            true => Ok(self),
            false => Err(refused(&self.url, expected)),
        }
    }

    /// The address as it was given: it holds no password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The topic itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user; empty without one.
    pub fn user(&self) -> &str {
        self.login.as_ref().map_or("", |(user, _)| user)
    }

    /// `host:port`.
    pub fn broker(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// How to connect; `client` names the session at the broker. Their `Debug` shows a password.
    pub fn options(&self, client: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client, self.host.as_str(), self.port);
        options.set_keep_alive(KEEP_ALIVE);
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password.as_str());
        }
        if let Some(tls) = &self.tls {
            let tls = TlsConfiguration::Rustls(Arc::clone(tls));
            options.set_transport(Transport::tls_with_config(tls));
        }
        options
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    tls: bool,
    user: Option<&'a str>,
    host: &'a str,
    port: u16,
    topic: &'a str,
}

/// The parts of an address; the error is what was expected instead.
fn parse(url: &str) -> Result<Address<'_>, &'static str> {
    let (tls, rest) = match url.strip_prefix("mqtts://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("mqtt://").ok_or(ADDRESS)?),
    };
    let (authority, topic) = rest.split_once('/').ok_or(ADDRESS)?;
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    // Every user of this machine could see it.
    if user.is_some_and(|user| user.contains(':')) {
        return Err(NO_PASSWORD);
    }
    let (host, port) = split_port(place).ok_or(ADDRESS)?;
    let port = match port {
        Some(port) => port.parse().map_err(|_| ADDRESS)?,
        None if tls => TLS_PORT,
        None => PORT,
    };
    if user.is_some_and(str::is_empty)
        || host.is_empty()
        || topic.is_empty()
        || topic.contains('\0')
    {
        return Err(ADDRESS);
    }
    Ok(Address {
        tls,
        user,
        host,
        port,
        topic,
    })
}

/// Host and port. The colons of an IPv6 address, which is in brackets, begin no port.
fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    let end = match place.starts_with('[') {
        true => place.find(']')? + 1,
        false => place.find(':').unwrap_or(place.len()),
    };
    let (host, rest) = place.split_at(end);
    match rest.strip_prefix(':') {
        None if !rest.is_empty() => None,
        port => Some((host, port)),
    }
}

/// Whether what is sent to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = bare.unwrap_or(host).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What stands before the host may be a password.
fn refused(url: &str, expected: &'static str) -> WireError {
    WireError::MqttAddress {
        found: url.rsplit('@').next().unwrap_or_default().to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_port_topic_and_user() {
        let address = |tls, user, host, port, topic| Address {
            tls,
            user,
            host,
            port,
            topic,
        };
        let parsed = parse("mqtt://broker:1884/cameras/7");
        assert_eq!(
            parsed,
            Ok(address(false, None, "broker", 1884, "cameras/7"))
        );
        let parsed = parse("mqtts://u@broker/t");
        assert_eq!(
            parsed,
            Ok(address(true, Some("u"), "broker", TLS_PORT, "t"))
        );
        assert_eq!(parse("mqtt://broker/t").map(|a| a.port), Ok(PORT));
        for (url, port) in [("mqtt://[::1]/t", PORT), ("mqtt://[::1]:1884/t", 1884)] {
            assert_eq!(parse(url), Ok(address(false, None, "[::1]", port, "t")));
        }
        for bad in [
            "",
            "mqtt://",
            "mqtt://host",
            "mqtt:///t",
            "http://h/t",
            "mqtt://h:x/t",
            "mqtts://@h/t",
            "mqtt://::1/t",
            "mqtt://[::1/t",
            "mqtt://[::1]1884/t",
        ] {
            assert_eq!(parse(bad), Err(ADDRESS), "{bad}");
        }
        for bad in ["mqtt://u:p@h/t", "mqtts://u:p@h:1/t", "mqtt://:@h/t"] {
            assert_eq!(parse(bad), Err(NO_PASSWORD), "{bad}");
        }
    }

    /// Checks what both sides say to an address.
    fn check(url: &str, access: &Access, expected: Result<(), &str>) {
        for made in [Topic::for_subscriber, Topic::for_publisher] {
            match (made(url, access), expected) {
                (Ok(topic), Ok(())) => assert_eq!(topic.url(), url),
                (Err(error), Err(expected)) => {
                    let shown = error.to_string();
                    assert!(shown.contains(expected), "{url}: {shown}");
                    assert!(!shown.contains("hidden"), "{url}: {shown}");
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }

    fn with_password() -> Access {
        Access {
            password: Some(Zeroizing::new("hidden".to_string())),
            tls: None,
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let access = with_password();
        let file = Err("--mqtt-password-file");
        check("mqtt://user:hidden@host/t", &access, file);
        check("mqtts://host/t", &access, Err("authority"));
        check("mqtt://user@localhost/t", &Access::default(), file);
        let topic = Topic::for_subscriber("mqtt://user@localhost/t", &access).expect("good");
        assert_eq!((topic.user(), topic.name()), ("user", "t"));
        assert!(!format!("{topic:?} {access:?}").contains("hidden"));
    }

    #[test]
    fn a_password_crosses_no_network_in_clear() {
        let access = with_password();
        for host in [
            "localhost",
            "127.0.0.1",
            "127.8.0.1:1884",
            "[::1]",
            "[::1]:1884",
            "[::ffff:127.0.0.1]",
        ] {
            check(&format!("mqtt://user@{host}/t"), &access, Ok(()));
        }
        for host in [
            "broker",
            "10.0.0.1",
            "localhost.example",
            "127.0.0.1.example",
            "[2001:db8::1]",
            "[::ffff:10.0.0.1]:1883",
        ] {
            check(&format!("mqtt://user@{host}/t"), &access, Err("mqtts://"));
        }
        check("mqtt://broker/t", &access, Ok(()));
    }

    #[test]
    fn wild_cards_are_for_subscribers() {
        let access = Access::default();
        for topic in ["a/+/b", "a/#", "a/"] {
            let url = format!("mqtt://h/{topic}");
            assert!(Topic::for_subscriber(&url, &access).is_ok(), "{url}");
            assert!(Topic::for_publisher(&url, &access).is_err(), "{url}");
        }
        for topic in ["a/#/b", "a+", "a\0"] {
            let url = format!("mqtt://h/{topic}");
            assert!(Topic::for_publisher(&url, &access).is_err(), "{url}");
            assert!(Topic::for_subscriber(&url, &access).is_err(), "{url}");
        }
    }

    #[test]
    fn a_connection_has_user_and_password_only_if_the_address_has_a_user() {
        let access = with_password();
        let login = |url| {
            let topic = Topic::for_publisher(url, &access).expect("good");
            topic.options("client").credentials()
        };
        assert_eq!(login("mqtt://broker/t"), None);
        let expected = rumqttc::Login::new("user", "hidden");
        assert_eq!(login("mqtt://user@localhost/t"), Some(expected));
    }
}
