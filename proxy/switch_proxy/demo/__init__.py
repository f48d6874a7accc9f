"""
A whole little world to try the proxy in: fakes of the authorization server and of the Switch API, and a narrated demo.

    messages      what a fake received, and what it answers, as plain values
    faults        how a fake misbehaves, as data
    fake_server   the HTTP server under both fakes: receives, records, answers, misbehaves
    rate_limit    requests per second and per minute, counted for each client
    auth_server   FakeAuthorizationServer: the token endpoint
    switch_data   what the fake Switch API knows, and how its input is read
    switch_api    FakeSwitchAPI: bearer check, rate limits, endpoints
    narration     the demo's output in a terminal
    script        the demo's requests and checks, against any proxy before the fakes
    run           the demo: the fakes, the real proxy before them, the script, and an invitation to try

The fakes share no code with what they judge: nothing here but `run` imports another part of `proxy`. They are
made for users' own tests as much as for this project's (docs/testing-your-app.md).
"""
