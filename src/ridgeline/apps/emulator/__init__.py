"""An endpoint that speaks as OpenAI's does and is as fast as a named deployment would be; no model runs.

`asks.py` reads requests, `text.py` makes answers, `clock.py` plays the fleet against the clock of an event loop,
`http.py` is the wire, `service.py` ties a request to its tokens, `metrics.py` says what vLLM's /metrics says, and
`run.py` starts it all. The fleet itself is `serving/fleet/live.py`.
"""
