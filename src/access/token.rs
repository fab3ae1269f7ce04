//! Tokens with grants: JSON Web Tokens (RFC 7519) whose claims `publish` and `subscribe` list patterns of topics.
//!
//! [`verify`] judges one token, at a time that is an argument. `jsonwebtoken` reads it and checks its signature; the claims are
//! checked here. A part of a token never leaves this file, in no error and in no log.

use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use super::grants::{Grants, Issuer, LEEWAY, is_in_time};
use super::keys::Keys;
use crate::pattern::Pattern;
use crate::time::WallTime;

/// The claims that a token must have besides its grants.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The value of `iss`, if it counts.
    pub issuer: Option<String>,
    /// A value in `aud`. Without it, a token for an audience is for somebody else (RFC 7519, section 4.1.3).
    pub audience: Option<String>,
}

/// The reason why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is not a JSON Web Token that is signed, or it needs an extension.
    Malformed,
    /// There is no key for its algorithm and its `kid`.
    NoKey,
    /// No key fits its signature.
    Signature,
    /// A claim is missing, is there twice, or has a wrong type.
    Claims,
    /// A grant is not a pattern.
    Pattern,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    TooEarly,
    /// It is from another issuer.
    Issuer,
    /// It is for another audience.
    Audience,
}

/// The claims that count. One that is there twice is an error of the parser.
#[derive(Deserialize)]
struct Claims {
    exp: Number,
    nbf: Option<Number>,
    iss: Option<Value>,
    aud: Option<Value>,
    sub: Option<Value>,
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    /// All others. They are read, because all of a token must be JSON in UTF-8 (RFC 7519, section 7.2), and ignored.
    #[serde(flatten)]
    _others: IgnoredAny,
}

/// The grants of a token, if one of the keys has signed it and it is valid at `now`.
pub fn verify(
    token: &[u8],
    keys: &Keys,
    rules: &Rules,
    now: WallTime,
) -> Result<Grants, TokenError> {
    // The header is only a hint here: it finds the key, and the key decides on the algorithm.
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    let mut error = TokenError::NoKey;
    for key in keys.candidates(header.alg, header.kid.as_deref()) {
        match jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation) {
            Ok(token) => return judge(token.claims, rules, now),
            Err(other) => error = reason(other.kind()),
        }
        if error != TokenError::Signature {
            // Another key would say the same.
            break;
        }
    }
    Err(error)
}

fn reason(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        // The header has been read, and claims are read behind the signature.
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

/// Judges the claims of a token whose signature is right.
fn judge(claims: Claims, rules: &Rules, now: WallTime) -> Result<Grants, TokenError> {
    let expires_at = seconds(&claims.exp);
    if !is_in_time(expires_at, now) {
        return Err(TokenError::Expired);
    }
    // It is rounded down, as `exp` is. This is far less than the leeway.
    let begins_at = claims.nbf.as_ref().map_or(0, seconds);
    if begins_at > now.0.saturating_add(LEEWAY).as_secs() {
        return Err(TokenError::TooEarly);
    }
    if let Some(issuer) = &rules.issuer
        && claims.iss.as_ref().and_then(Value::as_str) != Some(issuer)
    {
        return Err(TokenError::Issuer);
    }
    if !is_for(claims.aud.as_ref(), rules.audience.as_deref()) {
        return Err(TokenError::Audience);
    }
    let subject = match claims.sub {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.into()),
        Some(Value::Number(number)) => Some(number.to_string().into()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(TokenError::Claims);
        }
    };
    Ok(Grants {
        publish: patterns(claims.publish)?,
        subscribe: patterns(claims.subscribe)?,
        expires_at,
        subject,
        issuer: Issuer::Signer(claims.iss.as_ref().and_then(Value::as_str).map(Into::into)),
    })
}

/// Whether the claim `aud`, a name or a list of names, has the audience.
fn is_for(claim: Option<&Value>, audience: Option<&str>) -> bool {
    match (claim, audience) {
        (None | Some(Value::Null), audience) => audience.is_none(),
        (Some(Value::String(name)), Some(audience)) => name == audience,
        (Some(Value::Array(names)), Some(audience)) => {
            names.iter().all(Value::is_string) && names.iter().any(|name| name == audience)
        }
        (Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)), Some(_)) | (Some(_), None) => {
            false
        }
    }
}

/// A time in seconds since the epoch. It may have a fraction (RFC 7519, section 2), which is cut off.
#[expect(
    clippy::cast_sign_loss,
    reason = "a number outside of the range becomes the nearest one in it"
)]
fn seconds(number: &Number) -> u64 {
    let fraction = || number.as_f64().unwrap_or_default();
    number.as_u64().unwrap_or_else(|| fraction() as u64)
}

fn patterns(list: Option<Vec<String>>) -> Result<Vec<Pattern>, TokenError> {
    let texts = list.unwrap_or_default().into_iter();
    texts
        .map(|text| Pattern::new(&text).map_err(|_| TokenError::Pattern))
        .collect()
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
