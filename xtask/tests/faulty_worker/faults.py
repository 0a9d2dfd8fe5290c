"""The table of faults: every promise that the faulty worker can break, one row each.

The table is the documentation; `--list-faults` prints it as JSON lines. What a fault does lives where
the promise is kept (`active(...)`) or, where a payload is bent on its way out, in `distort.py`.
To add a fault: add a row, then act on it.
"""

import json
import os

# The contract's sentences, shortened, that the rows below break.
PORT = "The port answers within 1 s of the start, while the model is still loading."
HEALTH = "GET /v1/health answers 200 with status, model_loaded and worker_id as long as the process lives."
READY = "GET /v1/ready answers 200 exactly when an inference would be accepted, else 503 with a reason and Retry-After."
LOADING = "While loading, an inference is answered with 503 not_ready and Retry-After."
REFUSE = "A worker that cannot serve exits non-zero within 2 s, with one `error: ...: cause` line on stderr."
NO_FALLBACK = "Never a silent fall-back from cuda or metal to cpu."
DEVICE = "With cuda its weights are in the device's memory as long as it lives, its log names the device, and then it is free."
TOKEN = "A host other than loopback needs WORKER_API_TOKEN; every request then carries it; it is never logged."
BEAT = "Beats are POSTed as JSON to {hive-url}/heartbeat/workers with every field, true and of the right type."
SEQUENCE = "sequence starts at 1 and rises by one for each beat that is due."
RHYTHM = "One beat at once when the task starts, one every interval, and one at once on a change of state."
STATES = "state is Loading, Ready, Busy or Draining, and says what the worker does."
LATE = "Under full load a beat is late by less than a tenth of the interval, or 100 ms where that is more."
HIVE = "A hive that is absent, slow, answers 5xx or hangs up never holds inference up and never ends the worker."
RESUME = "Beats resume within one interval of the hive's return, without a burst."
REDIRECT = "Redirects are not followed."
ANSWER = "The answer has text, tokens, finish_reason, usage and timings, and they agree."
MAX_TOKENS = "max_tokens is kept exactly; its default is 128."
SAME = "The same seed, prompt and options give the same text, alone or beside other requests; 0 is greedy."
STOP = "Generation ends at a stop string, which is not in the text."
FINISH = "finish_reason is stop or length, whichever is true."
STREAM = "Each token is one event, written when it is sampled, indices without a gap, whole UTF-8."
END = "The last event is exactly one end (with tokens, finish_reason, usage, timings) or one error."
EQUAL = "Concatenated, the streamed texts equal what the same request answers without streaming."
ITSELF = "The text is that of the model in --model, whole and as it is, and depends on every token of the prompt."
ERRORS = "Every refusal has its status and code, and the JSON form with code, message and field."
NEXT = "After any refused request the same process answers the next good one."
FIELDS = "A field that is missing, unknown, of the wrong type or out of range is refused by name."
SIZE = "A body of up to 1 MiB is taken, a larger one is refused with 413."
QUEUE = "A full queue is answered with 429 queue_full and Retry-After."
CONTEXT = "Prompt and max_tokens beyond the context are refused with 422 context_length_exceeded."
LOAD = "Health answers in under 250 ms while generation runs at full load."
LEAVE = "A client that goes away stops its own generation within 1 s and nobody else's."
ALIVE = "The process lives and serves until it is asked to stop."
DRAIN = "SIGTERM, SIGINT: ready turns 503, what runs is finished up to --drain-timeout, a last beat says Draining, exit 0."
SECOND = "A second signal ends it at once."
OPENAI = "OpenAI's paths: its bodies, chunks, usage, [DONE] and errors, as its reference has them."
KEPT = "None: every promise is kept, in a way that nobody excluded."
HOST = "Without a token the host is localhost or an address."
IDLE = "An idle connection is kept for at least 75 s, or for as long as a Keep-Alive header says."
FAILED = "A worker whose engine cannot go on says failed in health, ready and one heartbeat at once, and ends."
LOGS = "Logs go to stderr, one line an event, level first."


class Fault:
    """One way of breaking one promise, or (benign) of keeping all of them differently. `load_ms` is the shortest loading phase that shows it."""

    def __init__(self, fault_id, what, promise, load_ms=0):
        self.id = fault_id
        self.area = fault_id.split(".")[0]
        self.what = what
        self.promise = promise
        self.load_ms = load_ms


# The bad values that each field may wrongly take, by their kind.
ACCEPTED = tuple(
    (field, kind)
    for field, kinds in (
        ("prompt", "null boolean number array object empty"),
        ("max_tokens", "null boolean string array object zero negative fraction"),
        ("temperature", "null boolean string array object negative above"),
        ("top_p", "null boolean string array object zero negative above"),
        ("top_k", "null boolean string array object zero negative fraction"),
        ("seed", "null boolean string array object negative fraction above"),
        ("stop", "null boolean number object empty empty_item number_item null_item seventeen"),
        ("stream", "null number string array object"),
    )
    for kind in kinds.split()
)

# How long a fault of the loading phase keeps that phase up, so that it can be seen.
SEEN_MS = 1500

FAULTS = (
    Fault("start.never_ready", "loads for ever", READY),
    Fault("start.health_says_loaded", "model_loaded is true while it loads", HEALTH, SEEN_MS),
    Fault("start.health_503_while_loading", "health answers 503 until the model is loaded", HEALTH, SEEN_MS),
    Fault("start.health_wrong_worker_id", "health names another worker", HEALTH),
    Fault("start.health_no_worker_id", "health lacks worker_id", HEALTH),
    Fault("start.health_no_model_loaded", "health lacks model_loaded", HEALTH),
    Fault("start.health_no_status", "health lacks status", HEALTH),
    Fault("start.health_wrong_status", "health says status ok", HEALTH),
    Fault("start.health_loaded_string", "model_loaded is the string \"true\"", HEALTH),
    Fault("start.health_never_loaded", "model_loaded stays false", HEALTH),
    Fault("start.health_500", "health answers 500", HEALTH),
    Fault("start.health_plain_text", "health answers 200 with the text OK", HEALTH),
    Fault("start.ready_while_loading", "ready says true while it loads", READY, SEEN_MS),
    Fault("start.ready_never_true", "ready stays 503 although inference works", READY),
    Fault("start.ready_flickers", "ready says loading once more after it has said true", READY),
    Fault("start.ready_200_false", "ready answers 200 with ready false while it loads", READY, SEEN_MS),
    Fault("start.ready_503_true", "ready answers 503 with ready true once loaded", READY),
    Fault("start.ready_no_reason", "the 503 of ready has no reason", READY, SEEN_MS),
    Fault("start.ready_no_retry_after", "the 503 of ready has no Retry-After", READY, SEEN_MS),
    Fault("start.inference_waits_for_load", "an inference while loading hangs until the model is there", LOADING, SEEN_MS),
    Fault("start.inference_500_while_loading", "an inference while loading is answered with 500", LOADING, SEEN_MS),
    Fault("start.not_ready_no_retry_after", "the 503 not_ready has no Retry-After", LOADING, SEEN_MS),
    Fault("start.port_opens_late", "the port opens 2 s after the start", PORT, 2000),
    Fault("start.port_deaf_while_loading", "connections are taken but not answered while it loads", PORT, 2000),
    Fault("start.listens_everywhere", "listens on every address, without a token", TOKEN),
    Fault("start.wrong_port", "listens on another port than asked for", PORT),

    Fault("refuse.exits_zero", "a start-up error exits 0", REFUSE),
    Fault("refuse.hangs", "a start-up error is printed, then the process stays", REFUSE),
    Fault("refuse.silent", "a start-up error prints nothing", REFUSE),
    Fault("refuse.slow", "a start-up error takes 5 s to end the process", REFUSE),
    Fault("refuse.traceback", "a start-up error prints a stack trace", REFUSE),
    Fault("refuse.no_cause", "a start-up error names no cause", REFUSE),
    Fault("refuse.on_stdout", "the error line goes to stdout", REFUSE),
    Fault("refuse.crashes", "a start-up error ends in SIGSEGV", REFUSE),
    Fault("refuse.missing_model_served", "starts without its model", REFUSE),
    Fault("refuse.text_file_served", "starts with a text file as model", REFUSE),
    Fault("refuse.truncated_served", "starts with a truncated model", REFUSE),
    Fault("refuse.architecture_served", "starts with an architecture that it doesn't know", REFUSE),
    Fault("refuse.quantisation_served", "starts with a quantisation that it doesn't know", REFUSE),
    Fault("device.never_touched", "says that it computes on the device, and doesn't", DEVICE),
    Fault("device.unnamed", "the log doesn't name the device", DEVICE),
    Fault("device.kept", "the device's memory stays taken after its end", DEVICE),
    Fault("refuse.cuda_falls_back", "serves on the cpu when asked for cuda", NO_FALLBACK),
    Fault("refuse.metal_falls_back", "serves on the cpu when asked for metal", NO_FALLBACK),
    Fault("refuse.unknown_backend_served", "takes an unknown backend for cpu", REFUSE),
    Fault("refuse.unknown_device_served", "takes a device that the machine lacks", REFUSE),
    Fault("refuse.taken_port_moves", "serves on another port when its own is taken", REFUSE),
    Fault("refuse.taken_port_stays", "lives on without a port when its own is taken", REFUSE),
    Fault("refuse.open_host_without_token", "listens on every interface without a token", TOKEN),

    Fault("auth.token_not_asked", "answers requests without the token", TOKEN),
    Fault("auth.open_on_loopback", "on loopback the token is not asked for", TOKEN),
    Fault("auth.open_beside_paths", "paths that don't exist are answered without the token", TOKEN),
    Fault("auth.wrong_token_taken", "any token will do", TOKEN),
    Fault("auth.prefix_taken", "a prefix of the token will do", TOKEN),
    Fault("auth.health_open", "health answers without the token", TOKEN),
    Fault("auth.locked_after_wrong", "after a wrong token the right one is refused, too", TOKEN),
    Fault("auth.token_logged", "the token is in the log", TOKEN),

    Fault("beat.wrong_id", "beats name another worker", BEAT),
    Fault("beat.no_last_word", "tells the hive that it loads, and not that it can't", BEAT),
    Fault("beat.huge", "each beat has a field of 1 MiB", BEAT),
    Fault("beat.wrong_interval", "interval_s is not the one asked for", BEAT),
    Fault("beat.wrong_port", "port is not the one that it listens on", BEAT),
    Fault("beat.wrong_backend", "backend says cuda", BEAT),
    Fault("beat.wrong_device", "device is another one", BEAT),
    Fault("beat.wrong_model_ref", "model_ref is another one", BEAT),
    Fault("beat.no_model_ref", "model_ref is missing", BEAT),
    Fault("beat.no_state", "state is missing", BEAT),
    Fault("beat.no_sequence", "sequence is missing", BEAT),
    Fault("beat.no_timestamp", "timestamp is missing", BEAT),
    Fault("beat.device_string", "device is a string", BEAT),
    Fault("beat.timestamp_local", "timestamp has no zone", BEAT),
    Fault("beat.timestamp_epoch", "timestamp is a number of seconds", BEAT),
    Fault("beat.timestamp_constant", "timestamp stays that of the first beat", BEAT),
    Fault("beat.timestamp_old", "timestamp is an hour behind", BEAT),
    Fault("beat.wrong_path", "beats go to /heartbeats/worker", BEAT),
    Fault("beat.get", "beats are GET requests", BEAT),
    Fault("beat.wrong_content_type", "beats are sent as text/plain", BEAT),
    Fault("beat.not_json", "beats are form-encoded under a JSON content type", BEAT),
    Fault("beat.sequence_stuck", "sequence stays 1", SEQUENCE),
    Fault("beat.sequence_gaps", "sequence rises by two", SEQUENCE),
    Fault("beat.sequence_from_zero", "sequence starts at 0", SEQUENCE),
    Fault("beat.sequence_backwards", "sequence falls", SEQUENCE),
    Fault("beat.irregular", "periods alternate between a third of the interval and five thirds", RHYTHM),
    Fault("beat.bursts", "three beats at a time, every third interval", RHYTHM),
    Fault("beat.double", "every beat is sent twice, numbered on", RHYTHM),
    Fault("beat.slow", "the period is 1.3 times the interval", RHYTHM),
    Fault("beat.fast", "the period is 0.6 of the interval", RHYTHM),
    Fault("beat.only_one", "one beat, then none", RHYTHM),
    Fault("beat.first_late", "the first beat comes after one interval", RHYTHM),
    Fault("beat.option_ignored", "beats every 30 s whatever was asked for", RHYTHM),
    Fault("beat.default_is_ten", "the interval without the option is 10 s", RHYTHM),
    Fault("beat.change_not_at_once", "a change of state waits for the next periodic beat", RHYTHM),
    Fault("beat.stops_after_inference", "no beat after the first inference", RHYTHM),
    Fault("beat.wrong_id_after_refusal", "after a refused request beats name another worker", BEAT),
    Fault("beat.never_loading", "says Ready while it loads", STATES, SEEN_MS),
    Fault("beat.never_ready", "says Loading for ever", STATES),
    Fault("beat.never_busy", "says Ready while it generates", STATES),
    Fault("beat.stays_busy", "says Busy for ever after the first inference", STATES),
    Fault("beat.no_draining", "says nothing when it is asked to stop", STATES),
    Fault("beat.last_out_of_sequence", "the last beat has the number of the first", SEQUENCE),
    Fault("beat.unknown_state", "says Idle for Ready", STATES),
    Fault("beat.lowercase_state", "says ready for Ready", STATES),
    Fault("beat.late_under_load", "a beat under load comes half an interval late", LATE),
    Fault("beat.silent_under_load", "no periodic beat while it generates", LATE),

    Fault("hive.refuses_without_hive", "exits when the hive is absent at the start", HIVE),
    Fault("hive.waits_for_hive", "is not ready before the hive has taken a beat", HIVE),
    Fault("hive.dies_on_500", "exits when the hive answers 5xx", HIVE),
    Fault("hive.dies_on_hangup", "exits when the hive hangs up", HIVE),
    Fault("hive.blocks_inference", "an inference waits while a beat waits for its answer", HIVE),
    Fault("hive.stops_on_500", "no beat after a 5xx", RESUME),
    Fault("hive.gives_up", "no beat after two that failed", RESUME),
    Fault("hive.no_time_limit", "waits for ever for a hive that hangs", RESUME),
    Fault("hive.burst_on_return", "sends every missed beat when the hive is back", RESUME),
    Fault("hive.follows_redirects", "follows a redirect", REDIRECT),

    Fault("infer.zero_tokens", "no text and no tokens, called a success", ANSWER),
    Fault("infer.empty_text", "no text, but tokens are counted", ANSWER),
    Fault("infer.tokens_miscounted", "tokens is one too many", ANSWER),
    Fault("infer.usage_differs", "usage.completion_tokens is not tokens", ANSWER),
    Fault("infer.usage_missing", "no usage", ANSWER),
    Fault("infer.prompt_tokens_zero", "usage.prompt_tokens is 0", ANSWER),
    Fault("infer.prompt_tokens_constant", "usage.prompt_tokens is always 1", ANSWER),
    Fault("infer.timings_missing", "no timings", ANSWER),
    Fault("infer.timings_negative", "decode_ms is below zero", ANSWER),
    Fault("infer.timings_impossible", "decode_ms is longer than the request took", ANSWER),
    Fault("infer.wrong_content_type", "the answer is sent as text/plain", ANSWER),
    Fault("infer.broken_utf8", "characters split over tokens become U+FFFD in the text", ANSWER),
    Fault("infer.stream_ignored", "stream: true is answered with JSON", STREAM),
    Fault("infer.streams_always", "stream: false is answered with events", ANSWER),
    Fault("infer.one_more", "one token more than max_tokens", MAX_TOKENS),
    Fault("infer.one_less", "one token less than max_tokens", MAX_TOKENS),
    Fault("infer.max_tokens_ignored", "128 tokens whatever was asked for", MAX_TOKENS),
    Fault("infer.default_is_16", "16 tokens by default", MAX_TOKENS),
    Fault("infer.default_is_greedy", "temperature is 0 by default", SAME),
    Fault("infer.sampling_is_greedy", "every temperature is taken for 0", SAME),
    Fault("infer.seed_ignored", "the same seed gives other texts", SAME),
    Fault("infer.greedy_random", "temperature 0 gives other texts", SAME),
    Fault("infer.state_leaks", "a text depends on how many requests came before", SAME),
    Fault("infer.differs_beside_others", "another text beside other requests", SAME),
    Fault("infer.fails_beside_others", "500 beside other requests", SAME),
    Fault("infer.crosstalk", "beside other requests, answers the other prompt", SAME),
    Fault("infer.narrowing_ignored", "top_k and top_p change nothing", SAME),
    Fault("infer.stop_ignored", "stop strings change nothing", STOP),
    Fault("infer.stop_kept", "the stop string is in the text", STOP),
    Fault("infer.stop_across_tokens_missed", "a stop string is only found within one token", STOP),
    Fault("infer.stop_first_only", "only the first of several stop strings counts", STOP),
    Fault("infer.held_back_lost", "text that could have begun a stop string is lost at the end", STOP),
    Fault("infer.finish_always_length", "finish_reason is always length", FINISH),
    Fault("infer.finish_always_stop", "finish_reason is always stop", FINISH),
    Fault("infer.finish_missing", "no finish_reason", FINISH),
    Fault("infer.finish_unknown", "finish_reason is done", FINISH),
    Fault("infer.hangs", "no inference is ever answered", ALIVE),
    Fault("infer.second_hangs", "the second inference is never answered", ALIVE),

    Fault("stream.truncated", "the events stop without an end", END),
    Fault("stream.cut_off", "the connection is cut in the middle of the events", END),
    Fault("stream.double_end", "two ends", END),
    Fault("stream.tokens_after_end", "a token after the end", END),
    Fault("stream.error_after_end", "an error after the end", END),
    Fault("stream.error_midway", "every stream ends in an error after five tokens", END),
    Fault("stream.end_no_usage", "the end has no usage", END),
    Fault("stream.end_no_timings", "the end has no timings", END),
    Fault("stream.end_no_finish_reason", "the end has no finish_reason", END),
    Fault("stream.end_count_wrong", "the end counts one token too many", END),
    Fault("stream.end_reason_wrong", "the end has the other finish_reason", END),
    Fault("stream.body_stays_open", "the body is not closed after the end", END),
    Fault("stream.buffered", "all events are written at the end, at once", STREAM),
    Fault("stream.buffered_as_prefill", "the same, and the time is said to have gone into the prompt", STREAM),
    Fault("stream.pairs", "events are written two at a time", STREAM),
    Fault("stream.batched", "events are written eight at a time", STREAM),
    Fault("stream.index_gap", "an index is left out", STREAM),
    Fault("stream.index_from_one", "indices start at 1", STREAM),
    Fault("stream.index_repeats", "an index comes twice", STREAM),
    Fault("stream.splits_utf8", "characters split over tokens become U+FFFD", STREAM),
    Fault("stream.raw_bytes", "characters split over tokens are sent as broken bytes", STREAM),
    Fault("stream.wrong_content_type", "events are sent as text/plain", STREAM),
    Fault("stream.bad_json", "the data of one event is not JSON", STREAM),
    Fault("stream.unnamed_events", "token events have no event line", STREAM),
    Fault("stream.differs_from_plain", "a word of the text differs when streamed", EQUAL),
    Fault("stream.missing_text", "the text of one token is lost", EQUAL),
    Fault("stream.extra_space", "a space after every token", EQUAL),
    Fault("stream.stop_text_leaks", "the start of a stop string is sent before it is whole", EQUAL),

    Fault("error.malformed_json_status", "500 for what is not JSON", ERRORS),
    Fault("error.malformed_json_code", "bad_request for what is not JSON", ERRORS),
    Fault("error.media_type_status", "400 for a wrong content type", ERRORS),
    Fault("error.media_type_code", "bad_request for a wrong content type", ERRORS),
    Fault("error.utf8_refused", "charset=utf8 is refused", ERRORS),
    Fault("error.foreign_host_taken", "requests for any host are served without a token", HOST),
    Fault("error.foreign_host_health", "health is answered for any host without a token", HOST),
    Fault("error.host_ignored", "requests without a host, or with two, are served", ERRORS),
    Fault("error.media_type_ignored", "any content type is taken", ERRORS),
    Fault("error.no_media_type_taken", "a body without a content type is taken", ERRORS),
    Fault("error.invalid_field_status", "400 for an invalid field", ERRORS),
    Fault("error.invalid_field_code", "bad_request for an invalid field", ERRORS),
    Fault("error.not_found_status", "200 for a path that isn't there", ERRORS),
    Fault("error.not_found_code", "unknown_route for a path that isn't there", ERRORS),
    Fault("error.not_found_html", "an HTML page for a path that isn't there", ERRORS),
    Fault("error.method_status", "404 for a method that the path lacks", ERRORS),
    Fault("error.method_code", "bad_request for a method that the path lacks", ERRORS),
    Fault("error.method_no_allow", "405 without Allow", ERRORS),
    Fault("error.options_taken", "OPTIONS is answered with 200", ERRORS),
    Fault("error.head_taken", "HEAD is answered with 200", ERRORS),
    Fault("error.get_inference_taken", "GET /v1/inference is answered with 200", ERRORS),
    Fault("error.plain_text", "errors are plain text", ERRORS),
    Fault("error.html", "errors are HTML", ERRORS),
    Fault("error.flat", "errors are {\"error\":\"message\"}", ERRORS),
    Fault("error.wrong_content_type", "errors are JSON sent as text/html", ERRORS),
    Fault("error.no_message", "the message is empty", ERRORS),
    Fault("error.vague_message", "the message says invalid request and no more", ERRORS),
    Fault("error.allowed_unsaid", "the message says what came and not what is allowed", ERRORS),
    Fault("error.no_field", "the field is not named", FIELDS),
    Fault("error.wrong_field", "another field is named", FIELDS),
    Fault("error.unknown_field_taken", "an unknown field is ignored", FIELDS),
    Fault("error.type_coerced", "\"5\" is taken for 5, and 5.7 too", FIELDS),
    Fault("error.boolean_coerced", "true is taken for 1", FIELDS),
    Fault("error.missing_prompt_taken", "a missing prompt is taken for an empty one", FIELDS),
    Fault("error.null_prompt_500", "500 for a prompt that is null", FIELDS),
    Fault("error.sixteen_stops_refused", "16 stop strings are refused", FIELDS),
    Fault("error.huge_integer_rounded", "seeds are read as floats", FIELDS),
    Fault("error.seed_zero_drawn", "seed 0 is taken for none", SAME),
    Fault("error.whole_float_refused", "5.0 and 5e0 are refused as integers", FIELDS),
    Fault("error.exponent_cut", "1e1 is read as 1", FIELDS),
    Fault("error.duplicate_keys_taken", "the last of two equal keys wins", FIELDS),
    Fault("error.invalid_utf8_taken", "invalid UTF-8 is replaced and taken", ERRORS),
    Fault("error.nan_taken", "NaN and Infinity are taken", ERRORS),
    Fault("error.trailing_garbage_taken", "what follows the JSON value is ignored", ERRORS),
    Fault("error.surrogate_500", "500 for a lone surrogate", ERRORS),
    Fault("error.bad_framing_500", "500 for what isn't whole HTTP", ERRORS),
    Fault("error.drops_connection", "bad JSON is answered by hanging up", ERRORS),
    Fault("error.never_answers_bad_json", "bad JSON is not answered", ERRORS),
    Fault("error.crashes_on_bad_json", "bad JSON ends the process", NEXT),
    Fault("error.crashes_on_deep_nesting", "deep nesting ends the process", NEXT),
    Fault("error.crashes_on_huge_number", "a number of a thousand digits ends the process", NEXT),
    Fault("error.degraded_text", "after bad JSON the same request gives another text", NEXT),
    Fault("error.degraded_500", "after bad JSON the next good request fails", NEXT),
    Fault("error.degraded_slow", "after an invalid field every request takes 3 s longer", NEXT),
    Fault("error.lying_length_blocks", "nobody is answered while a body is shorter than its length says", NEXT),
    Fault("error.oversize_taken", "a body over 1 MiB is read and taken", SIZE),
    Fault("error.oversize_status", "400 for a body over 1 MiB", SIZE),
    Fault("error.oversize_code", "bad_request for a body over 1 MiB", SIZE),
    Fault("error.oversize_hangs_up", "a body over 1 MiB is answered by hanging up", SIZE),
    Fault("error.chunked_oversize_taken", "a chunked body over 1 MiB is taken", SIZE),
    Fault("error.chunked_refused", "a small chunked body is refused", SIZE),
    Fault("error.one_mib_refused", "a body of exactly 1 MiB is refused with 413", SIZE),
    Fault("error.context_status", "500 when the context is exceeded", CONTEXT),
    Fault("error.context_code", "invalid_field when the context is exceeded", CONTEXT),
    Fault("error.context_border_refused", "what fits exactly into the context is refused", CONTEXT),
    Fault("error.prompt_truncated", "a prompt that is too long is silently cut", CONTEXT),
    Fault("error.method_before_path", "a wrong method is named before a wrong path", ERRORS),
    Fault("error.json_before_type", "bad JSON is named before a wrong content type", ERRORS),
    Fault("error.size_before_type", "a body's size is named before a wrong content type", ERRORS),
    Fault("error.context_before_field", "too many tokens are named before an invalid field", ERRORS),
    Fault("error.context_truncated", "max_tokens is silently cut to the context", CONTEXT),
    Fault("error.queue_unbounded", "the queue has no end", QUEUE),
    Fault("error.queue_status", "503 for a full queue", QUEUE),
    Fault("error.queue_code", "busy for a full queue", QUEUE),
    Fault("error.queue_no_retry_after", "429 without Retry-After", QUEUE),
    Fault("error.queue_stays_full", "once full, the queue stays full", QUEUE),
    Fault("error.unauthorized_status", "403 without a token", TOKEN),
    Fault("error.unauthorized_code", "forbidden without a token", TOKEN),

    Fault("load.health_blocked", "health waits while generation runs", LOAD),
    Fault("load.health_slow", "health takes 400 ms while generation runs", LOAD),
    Fault("load.health_500", "health answers 500 while generation runs", HEALTH),
    Fault("load.ready_blocked", "ready waits while generation runs", READY),
    Fault("load.ready_false", "ready says 503 while generation runs and more would be accepted", READY),
    Fault("load.queued_lost", "a request that had to wait is answered with 500", QUEUE),
    Fault("load.queued_forgotten", "a request that had to wait is never answered", QUEUE),

    Fault("leave.fin_goes_on", "goes on generating for a client that closed", LEAVE),
    Fault("leave.rst_goes_on", "goes on generating for a client that reset", LEAVE),
    Fault("leave.extra_bytes_go_on", "doesn't see that a client closed behind bytes that nobody read", LEAVE),
    Fault("leave.plain_goes_on", "goes on when the client of a request without streaming left", LEAVE),
    Fault("leave.prefill_goes_on", "goes on when the client left during prefill", LEAVE),
    Fault("leave.queued_goes_on", "generates for a client that left while it waited", LEAVE),
    Fault("leave.stops_late", "stops 3 s after the client left", LEAVE),
    Fault("leave.slot_leaked", "the place of a client that left is never free again", LEAVE),
    Fault("leave.kills_others", "a client that leaves ends the streams of all others", LEAVE),
    Fault("leave.dies", "a client that leaves ends the process", LEAVE),

    Fault("robust.single_threaded", "one connection at a time", ALIVE),
    Fault("robust.slow_sender_blocks", "nobody is answered while a request is half sent", ALIVE),
    Fault("robust.slow_reader_blocks", "generation stands still for all while one client doesn't read", LEAVE),
    Fault("robust.no_beats_in_a_crowd", "no beats while 100 connections are open", ALIVE),
    Fault("robust.idle_cut_short", "closes a connection that idles for half a second", IDLE),
    Fault("robust.idle_time_lied", "says that it keeps idle connections for 90 s, and closes them after half a second", IDLE),
    Fault("robust.idle_limit_100", "takes no connection while 100 are open", ALIVE),
    Fault("robust.dies_at_150_connections", "exits when 150 connections are open", ALIVE),
    Fault("robust.half_request_kills", "exits when a client hangs up within its request", ALIVE),
    Fault("robust.dies_on_sigcont", "exits when it is continued after a stop", ALIVE),
    Fault("robust.burst_after_sigcont", "sends the beats that it slept through", RHYTHM),

    Fault("crash.exits_zero_after_inference", "exits 0 after the first inference", ALIVE),
    Fault("crash.segv_after_ready", "SIGSEGV 300 ms after it became ready", ALIVE),
    Fault("crash.abort_after_ready", "SIGABRT 300 ms after it became ready", ALIVE),
    Fault("crash.exits_while_loading", "exits 1 without a word while it loads", ALIVE, 300),
    Fault("crash.exits_while_streaming", "exits in the middle of the first stream", ALIVE),
    Fault("crash.after_ten", "exits 101 at the tenth inference", ALIVE),
    Fault("crash.freezes", "SIGSTOPs itself 300 ms after it became ready", ALIVE),
    Fault("crash.engine_hangs", "no inference is answered after the third, and health says healthy", FAILED),
    Fault("crash.engine_fails", "every inference after the third fails with 500, and health says healthy", FAILED),
    Fault("crash.deadlocks_after_inference", "no request is answered after the first inference", ALIVE),

    Fault("stop.sigterm_ignored", "ignores SIGTERM", DRAIN),
    Fault("stop.sigint_ignored", "ignores SIGINT", DRAIN),
    Fault("stop.killed_by_sigterm", "SIGTERM kills it as if there were no handler", DRAIN),
    Fault("stop.exits_nonzero", "exits 1 after an orderly stop", DRAIN),
    Fault("stop.slow", "takes 15 s to stop with nothing to finish", DRAIN),
    Fault("stop.cuts_stream", "SIGTERM cuts what runs", DRAIN),
    Fault("stop.ready_while_draining", "ready says true while it drains", DRAIN),
    Fault("stop.accepts_while_draining", "takes new inferences while it drains", DRAIN),
    Fault("stop.port_closed_while_draining", "nothing answers while it drains", HEALTH),
    Fault("stop.health_says_healthy", "health says healthy while it drains", HEALTH),
    Fault("stop.drains_for_ever", "drains beyond --drain-timeout", DRAIN),
    Fault("stop.timeout_cuts_silently", "at --drain-timeout a stream is cut without an error event", END),
    Fault("stop.second_signal_ignored", "a second signal changes nothing", SECOND),
    Fault("stop.nonzero_while_loading", "SIGTERM while it loads exits 1", DRAIN, SEEN_MS),
    Fault("stop.ignored_while_loading", "SIGTERM while it loads waits until it has loaded", DRAIN, 6000),
    Fault("stop.grandchild_left", "leaves a child of its own behind, which ignores SIGTERM", DRAIN),
    Fault("stop.orphan_left", "leaves a process behind that has no parent, no environment and its own session", DRAIN),

    Fault("log.none", "logs nothing", LOGS),
    Fault("log.no_level", "log lines have no level", LOGS),
    Fault("log.on_stdout", "logs go to stdout", LOGS),
    Fault("log.json_ignored", "--log-format json changes nothing", LOGS),
    Fault("log.flood", "logs thousands of lines a second", LOGS),
    Fault("log.events_over_lines", "one event takes three lines", LOGS),

    Fault("impostor.canned", "the same nine tokens whatever is asked, seeded or not", ITSELF),
    Fault("impostor.other_model", "another model answers", ITSELF),
    Fault("impostor.wrong_quantisation", "weights of fewer bits: some tokens that are not far ahead change", ITSELF),
    Fault("impostor.layer_left_out", "one layer is left out: most tokens change", ITSELF),
    Fault("impostor.drafts_unchecked", "tokens of a small draft model are not checked: some change", ITSELF),
    Fault("impostor.rope_wrong", "right up to 24 tokens, wrong beyond", ITSELF),
    Fault("impostor.penalty_always", "a repetition penalty that nobody asked for", ITSELF),
    Fault("impostor.token_split", "each token is told as two", ITSELF),
    Fault("impostor.tokens_joined", "two tokens are told as one", ITSELF),
    Fault("impostor.echo", "says the prompt's last word", ITSELF),
    Fault("impostor.front_cut", "reads the prompt's last 24 characters", ITSELF),
    Fault("impostor.end_cut", "doesn't read the prompt's last 8 characters", ITSELF),
    Fault("impostor.middle_lost", "doesn't read the middle of the prompt", ITSELF),
    Fault("impostor.cached_by_first_words", "answers from a cache by the prompt's first 12 characters", ITSELF),
    Fault("impostor.stripped", "white space around the prompt is not read", ITSELF),
    Fault("impostor.one_space", "white space in the prompt becomes one space", ITSELF),
    Fault("impostor.lower_case", "reads the prompt in lower case", ITSELF),
    Fault("impostor.normalised", "normalises the prompt's characters", ITSELF),
    Fault("impostor.ascii", "leaves out what is not ASCII", ITSELF),
    Fault("impostor.templated", "puts the prompt into a chat template", ITSELF),
    Fault("impostor.system_prompt", "puts a system prompt before the prompt", ITSELF),
    Fault("impostor.one_line", "reads the prompt's last line", ITSELF),
    Fault("impostor.no_begin_token", "leaves out the token that begins texts", ITSELF),
    Fault("impostor.begin_token_twice", "begins texts twice", ITSELF),
    Fault("impostor.counts_words", "counts words for tokens", ITSELF),
    Fault("impostor.counts_bytes", "counts bytes for tokens", ITSELF),
    Fault("impostor.counts_characters", "counts characters for tokens", ITSELF),
    Fault("impostor.counts_fours", "counts a token for every four bytes", ITSELF),
    Fault("impostor.counts_whole_blocks", "counts whole blocks of 16 tokens", ITSELF),

    Fault("openai.no_done", "a stream has no [DONE]", OPENAI),
    Fault("openai.no_finish_reason", "a stream ends without a finish_reason", OPENAI),
    Fault("openai.no_stream_usage", "a stream has no usage, although stream_options asks for it", OPENAI),
    Fault("openai.text_after_the_end", "a stream has text after its finish_reason", OPENAI),
    Fault("openai.stream_content_type", "a stream is text/plain", OPENAI),
    Fault("openai.ids_change", "each chunk of a stream has another id", OPENAI),
    Fault("openai.usage_counts_one_more", "completion_tokens is one more than there are", OPENAI),
    Fault("openai.total_is_zero", "total_tokens is 0", OPENAI),
    Fault("openai.error_detail", "errors are {\"detail\": ...}", OPENAI),
    Fault("openai.chat_is_empty", "a chat is answered without text", OPENAI),
    Fault("openai.chat_stream_differs", "a streamed chat has another text than a plain one", OPENAI),
    Fault("benign.header_case", "header names and media types in other cases", KEPT),
    Fault("benign.http10", "HTTP/1.0, without a length and without chunks", KEPT),
    Fault("benign.short_keep_alive", "keeps idle connections for a second, and says so", KEPT),
    Fault("benign.closes", "closes the connection after every answer", KEPT),
    Fault("benign.chunked_answers", "whole answers in chunks, with extensions", KEPT),
    Fault("benign.split_answers", "whole answers in two writes with a pause between them", KEPT),
    Fault("benign.split_writes", "each event in writes of a few bytes", KEPT),
    Fault("benign.more_fields", "more fields than promised in every object, in another order", KEPT),
    Fault("benign.pretty_json", "JSON over several lines, escaped to ASCII", KEPT),
    Fault("benign.whole_floats", "5.0 for 5", KEPT),
    Fault("benign.sse_style", "CRLF, comments, ids, data before event, no space after the colon", KEPT),
    Fault("benign.other_logs", "other words, another level style, a line for each request", KEPT),
    Fault("benign.other_timestamps", "times with microseconds and +00:00", KEPT),
    Fault("benign.chunked_beats", "beats in chunks, with other header names", KEPT),
    Fault("benign.counts_from_change", "the next periodic beat is due an interval after the last beat of any kind", KEPT),
    Fault("benign.says_failed", "tells the hive that it loads and then that it failed", KEPT),
    Fault("benign.slow_start", "300 ms until the port is open", KEPT),
    Fault("benign.slow_load", "loads for three seconds", KEPT),
    Fault("benign.slow_model", "30 ms for a token, 250 ms for a prompt", KEPT),
    Fault("benign.instant", "no time at all for loading, prompts and tokens", KEPT),
    Fault("benign.one_at_a_time", "one generation at a time", KEPT),
    Fault("benign.many_at_a_time", "64 generations at a time", KEPT),
    Fault("benign.short_answers", "an end token after 13 tokens", KEPT),
    Fault("benign.openai_bundled", "OpenAI's protocol, several tokens a chunk", KEPT),
    Fault("benign.openai_empty_chunks", "OpenAI's protocol, chunks without text between those with text", KEPT),
    Fault("benign.openai_usage_with_the_end", "OpenAI's protocol, the usage in the last chunk that has a choice", KEPT),
) + tuple(
    Fault("accept.%s_%s" % (field, kind), "%s: %s is taken" % (field, kind.replace("_", " ")), FIELDS)
    for field, kind in ACCEPTED
)

BY_ID = {fault.id: fault for fault in FAULTS}

# The faults of this process: none in a good worker, mostly one, or several with commas between them.
ACTIVE = tuple(filter(None, os.environ.get("WORKER_FAULT", "").split(",")))


def active(fault_id):
    """Whether this process is to break that promise."""
    assert fault_id in BY_ID, fault_id
    return fault_id in ACTIVE


def chosen(rows, otherwise=None):
    """What a table says of a fault of this process."""
    return next((rows[fault_id] for fault_id in ACTIVE if fault_id in rows), otherwise)


def print_table():
    """Prints one JSON object a line: id, area, what, promise."""
    for fault in FAULTS:
        row = {"id": fault.id, "area": fault.area, "what": fault.what, "promise": fault.promise}
        print(json.dumps(row))
