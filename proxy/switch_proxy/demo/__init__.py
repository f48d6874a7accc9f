"""
Fakes of the authorization server and of the Switch API, and a narrated demo of the proxy between them.

    messages      a fake's requests and responses as plain values
    faults        the faults of a fake as data
    fake_server   the HTTP server of both fakes: receives, records, responds, performs faults
    rate_limit    requests per second and per minute, counted for each client
    auth_server   FakeAuthorizationServer: the token endpoint
    switch_data   the data of the fake Switch API, and the parser of its input
    switch_api    FakeSwitchAPI: bearer check, rate limits, endpoints
    narration     the demo's output in a terminal
    script        the demo's requests and checks, for any proxy in front of the fakes
    run           the demo: the fakes, the real proxy in front of them, the script, and commands to try

The fakes share no code with what they judge: only `run` imports another part of the package. They are made for users' own
tests as much as for this project's (docs/testing-your-app.md).
"""
