"""The recorder: the real smtp(8) or lmtp(8) of any release, or ours, alone in a scenario (tools/record_smtp.py)."""
