"""What the contracts' property tests draw from."""

from hypothesis import strategies as st

from contracts.subjects import ID_PATTERN, PLACEHOLDER

# Of a few letters, so that two drawn ids are often the same.
FEW_IDS = st.sampled_from(["a", "b", "c-1", "_"])
IDS = FEW_IDS | st.from_regex(ID_PATTERN, fullmatch=True)
TOKENS = FEW_IDS | st.just(PLACEHOLDER)
# Text bent on being more than one subject.
HOSTILE = st.text(st.sampled_from("ab.*>- \t\r\n\x00$é/:|=") | st.characters(), max_size=12)
