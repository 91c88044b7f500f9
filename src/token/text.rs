//! The text of a token: `dkt_test_` or `dkt_live_`, then base64url.

use super::TokenError;
use crate::base::id::base64url;
use crate::model::instance::Mode;

/// The largest token, in bytes before base64url.
pub const MAX_BYTES: usize = 8 * 1024;

/// Base64url of [`MAX_BYTES`], padded.
const MAX_TEXT: usize = MAX_BYTES.div_ceil(3) * 4;

/// Takes the text apart. Without a prefix the mode is unknown: official biscuit libraries print tokens so.
///
/// The size is checked before anything is decoded; padding is accepted, other characters are not.
pub(super) fn decode(text: &str) -> Result<(Option<Mode>, Vec<u8>), TokenError> {
    let (mode, encoded) = split(text);
    if encoded.len() > MAX_TEXT {
        return Err(TokenError::TooLarge);
    }
    let unpadded = match encoded.len() % 4 {
        0 => encoded
            .strip_suffix("==")
            .or_else(|| encoded.strip_suffix('='))
            .unwrap_or(encoded),
        _ => encoded,
    };
    let bytes = data_encoding::BASE64URL_NOPAD
        .decode(unpadded.as_bytes())
        .map_err(|_| TokenError::Malformed)?;
    if bytes.len() > MAX_BYTES {
        return Err(TokenError::TooLarge);
    }
    Ok((mode, bytes))
}

/// Puts the text together. It is a secret: callers wrap it at once.
pub(super) fn encode(mode: Option<Mode>, bytes: &[u8]) -> Result<String, TokenError> {
    if bytes.len() > MAX_BYTES {
        return Err(TokenError::TooLarge);
    }
    let prefix = mode.map_or("", Mode::token_prefix);
    Ok(format!("{prefix}{}", base64url(bytes)))
}

fn split(text: &str) -> (Option<Mode>, &str) {
    for mode in [Mode::Test, Mode::Live] {
        if let Some(encoded) = text.strip_prefix(mode.token_prefix()) {
            return (Some(mode), encoded);
        }
    }
    (None, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_there_and_back_with_and_without_padding() {
        assert_eq!(encode(Some(Mode::Test), b"abcd").as_deref(), Ok("dkt_test_YWJjZA"));
        assert_eq!(decode("dkt_test_YWJjZA"), Ok((Some(Mode::Test), b"abcd".to_vec())));
        assert_eq!(decode("dkt_live_YWJjZA=="), Ok((Some(Mode::Live), b"abcd".to_vec())));
        assert_eq!(decode("YWJjZA"), Ok((None, b"abcd".to_vec())));
    }

    #[test]
    fn refuses_other_alphabets_spaces_and_trailing_bits() {
        for text in [
            "dkt_test_YWJj ZA",
            "dkt_test_YWJjZA=",
            "dkt_test_YWJjZB",
            "dkt_test_+/==",
            "dkt_prod_YQ.",
        ] {
            assert_eq!(decode(text), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_size_is_judged_before_the_content() {
        let cap = base64url(&vec![0; MAX_BYTES]);
        assert_eq!(decode(&cap).map(|(_, bytes)| bytes.len()), Ok(MAX_BYTES));
        assert_eq!(decode(&"*".repeat(MAX_TEXT + 1)), Err(TokenError::TooLarge));
        assert_eq!(decode(&base64url(&vec![0; MAX_BYTES + 1])), Err(TokenError::TooLarge));
        assert_eq!(encode(None, &vec![0; MAX_BYTES + 1]).err(), Some(TokenError::TooLarge));
    }
}
