//! The few functions of llguidance that constrained decoding needs, for WebAssembly without a binding generator.
//! The caller is responsible for the pointers it passes; the only caller is llguidance.js.

use std::cell::RefCell;

use llguidance::{api::TopLevelGrammar, earley::SlicedBiasComputer, Matcher, ParserFactory};
use std::sync::Arc;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};

thread_local! {
    static ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

fn fail(message: String) {
    ERROR.with(|error| *error.borrow_mut() = message);
}

unsafe fn bytes<'a>(at: *const u8, length: usize) -> &'a [u8] {
    std::slice::from_raw_parts(at, length)
}

#[no_mangle]
pub extern "C" fn begin() {
    std::panic::set_hook(Box::new(|info| fail(info.to_string())));
}

#[no_mangle]
pub extern "C" fn allocate(length: usize) -> *mut u8 {
    Box::leak(vec![0u64; length.div_ceil(8)].into_boxed_slice()).as_mut_ptr().cast()
}

#[no_mangle]
pub unsafe extern "C" fn release(at: *mut u8, length: usize) {
    drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.cast::<u64>(), length.div_ceil(8))));
}

#[no_mangle]
pub extern "C" fn error_at() -> *const u8 {
    ERROR.with(|error| error.borrow().as_ptr())
}

#[no_mangle]
pub extern "C" fn error_length() -> usize {
    ERROR.with(|error| error.borrow().len())
}

/// Token i has the bytes `[ends[i - 1], ends[i])`; a token without bytes is never allowed, unless it ends an answer.
#[no_mangle]
pub unsafe extern "C" fn vocabulary(text: *const u8, ends: *const u32, tokens: usize, stops: *const u32, stop_count: usize) -> *mut ParserFactory {
    let ends = std::slice::from_raw_parts(ends, tokens);
    let stops = std::slice::from_raw_parts(stops, stop_count);
    let all = bytes(text, ends.last().map_or(0, |&end| end as usize));
    let mut start = 0;
    let mut words = Vec::with_capacity(tokens);
    for &end in ends {
        words.push(all[start..end as usize].to_vec());
        start = end as usize;
    }
    let trie = TokTrie::from(&TokRxInfo::new(tokens as u32, stops[0]), &words).with_eos_tokens(stops);
    let env: toktrie::TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    match ParserFactory::new(&env, InferenceCapabilities::default(), &SlicedBiasComputer::json_slices()) {
        Ok(mut factory) => {
            factory.quiet();
            factory.limits_mut().verbose_errors = false;
            Box::into_raw(Box::new(factory))
        }
        Err(error) => {
            fail(error.to_string());
            std::ptr::null_mut()
        }
    }
}

/// `kind` is `json_schema` or `lark`.
#[no_mangle]
pub unsafe extern "C" fn compile(factory: *const ParserFactory, kind: *const u8, kind_length: usize, grammar: *const u8, length: usize) -> *mut Matcher {
    let compiled = (|| {
        let kind = std::str::from_utf8(bytes(kind, kind_length))?;
        let grammar = std::str::from_utf8(bytes(grammar, length))?;
        (*factory).create_parser(TopLevelGrammar::from_tagged_str(kind, grammar)?)
    })();
    let matcher = Matcher::new(compiled);
    match matcher.get_error() {
        None => Box::into_raw(Box::new(matcher)),
        Some(error) => {
            fail(error);
            std::ptr::null_mut()
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn copy(matcher: *const Matcher) -> *mut Matcher {
    Box::into_raw(Box::new((*matcher).clone()))
}

#[no_mangle]
pub unsafe extern "C" fn drop_matcher(matcher: *mut Matcher) {
    drop(Box::from_raw(matcher));
}

fn told<T>(result: anyhow::Result<T>) -> Option<T> {
    result.map_err(|error| fail(error.to_string())).ok()
}

/// Bit t of `words` reports whether token t may come next. Returns 0, or -1 for an error.
#[no_mangle]
pub unsafe extern "C" fn mask(matcher: *mut Matcher, words: *mut u32, count: usize) -> i32 {
    match told((*matcher).compute_mask_or_eos()) {
        Some(mask) => {
            let words = std::slice::from_raw_parts_mut(words, count);
            words.fill(0);
            for (word, own) in words.iter_mut().zip(mask.as_slice()) {
                *word = *own;
            }
            0
        }
        None => -1,
    }
}

#[no_mangle]
pub unsafe extern "C" fn accept(matcher: *mut Matcher, token: u32) -> i32 {
    told((*matcher).consume_token(token)).map_or(-1, |()| 0)
}

#[no_mangle]
pub unsafe extern "C" fn rollback(matcher: *mut Matcher, tokens: usize) -> i32 {
    told((*matcher).rollback(tokens)).map_or(-1, |()| 0)
}

/// 1 if only the end of the answer may follow.
#[no_mangle]
pub unsafe extern "C" fn finished(matcher: *const Matcher) -> i32 {
    (*matcher).is_stopped() as i32
}

/// Seeds of hash tables: always the same, so that the module needs nothing from outside except the time.
#[no_mangle]
unsafe extern "Rust" fn __getrandom_v03_custom(at: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    std::slice::from_raw_parts_mut(at, length).fill(0x5a);
    Ok(())
}
