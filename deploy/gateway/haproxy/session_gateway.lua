-- Calls the gateway of Session Authority for a request, and applies its answer. The script knows
-- nothing of sessions. For HAProxy 2.6 and later:
--
--     lua-load-per-thread /etc/haproxy/session_gateway.lua http://127.0.0.1:8081
--     http-request set-var(txn.session_route) str("session=required")
--     http-request lua.session
--     http-request return status 503 unless { var(txn.session_judged) -m bool }
--
-- The action sets the identity headers of the request, and the variables `txn.cookie_1` to
-- `txn.cookie_3`, which `http-response` sends to the browser. If the request may pass, the action
-- sets `txn.session_judged`. HAProxy passes the request on after an error in Lua, so a line after
-- the action must refuse each request without this variable.

local gateway = table.pack(...)[1] or "http://127.0.0.1:8081"
-- HAProxy makes four attempts of this length before it gives up, 5 s in all. That is longer than
-- the gateway waits for the service, so that the gateway answers first.
local TIMEOUT_MS = 1250
-- HAProxy's HTTP client has a fault: if a request has nearly `tune.http.maxhdr` headers (101 by
-- default), the client writes beyond the end of its list of headers, and the process crashes. So
-- requests with more headers than this are refused.
local MOST_HEADERS = 90
local IDENTITY = {
    "x-session-user", "x-session-id", "x-session-device", "x-session-auth-methods",
    "x-session-sign-in-time", "x-session-claims", "x-session-assertion",
}
-- The credentials of a request. The gateway's answer says which of them the app gets: the token and
-- the device ID go no further than this proxy, unless the route says credentials=keep.
local CREDENTIALS = {"cookie", "authorization", "x-device-id"}
-- Headers that are not sent to the gateway as the client sent them: headers for one connection only
-- (RFC 9110, section 7.6.1), and headers that this script sets.
local KEPT_BACK = {
    ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["forwarded"] = true,
    ["host"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
    ["trailer"] = true, ["transfer-encoding"] = true, ["x-forwarded-for"] = true,
    ["x-forwarded-host"] = true, ["x-forwarded-method"] = true, ["x-forwarded-proto"] = true,
    ["x-forwarded-uri"] = true,
}
-- Headers of the gateway's answer that the client does not get: headers for the app, and headers
-- that HAProxy sets itself.
local NOT_ANSWERED = {
    ["authorization"] = true, ["connection"] = true, ["content-length"] = true, ["cookie"] = true,
    ["date"] = true, ["server"] = true, ["transfer-encoding"] = true, ["x-device-id"] = true,
}

-- HAProxy numbers the values of a header from 0. Some versions number the values of a header in a
-- response to this script from 1.
local function each(values)
    local found = {}
    for index = 0, #values do
        if values[index] ~= nil then found[#found + 1] = values[index] end
    end
    return found
end

local function first(headers, name)
    return headers[name] and each(headers[name])[1] or ""
end

local function deny(txn, status, headers, body)
    -- A response to a gRPC call has its status in a header. Its HTTP status is always 200.
    if headers["grpc-status"] then status = 200 end
    local reply = txn:reply{status = status, body = body or ""}
    for name, values in pairs(headers) do
        if not NOT_ANSWERED[name] and name:sub(1, 10) ~= "x-session-" then
            for _, value in ipairs(each(values)) do reply:add_header(name, value) end
        end
    end
    txn:done(reply)
end

local function session(txn)
    local route = txn:get_var("txn.session_route") or "session=required"
    local asked = {}
    local host
    local count = 0
    for name, values in pairs(txn.http:req_get_headers()) do
        if name == "host" then host = each(values)[1] end
        if not KEPT_BACK[name] then asked[name] = each(values) end
        count = count + #each(values)
    end
    if count > MOST_HEADERS then
        return deny(txn, 400, {["content-type"] = {"text/plain"}}, "too many headers")
    end
    asked["x-forwarded-for"] = {txn.f:src()}
    asked["x-forwarded-host"] = {host}
    asked["x-forwarded-method"] = {txn.f:method()}
    asked["x-forwarded-proto"] = {txn.f:ssl_fc() == 1 and "https" or "http"}
    asked["x-forwarded-uri"] = {txn.f:pathq()}

    local answer = core.httpclient():get{
        url = gateway .. "/forward-auth:" .. route, headers = asked, timeout = TIMEOUT_MS,
    }
    if answer.status >= 200 and answer.status <= 299 then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_set_header(name, first(answer.headers, name))
        end
        for _, name in ipairs(CREDENTIALS) do
            local value = first(answer.headers, name)
            if value == "" then
                txn.http:req_del_header(name)
            else
                txn.http:req_set_header(name, value)
            end
        end
        local vary = first(answer.headers, "vary")
        if vary ~= "" then txn:set_var("txn.session_vary", vary) end
        for number = 1, 3 do
            local cookie = first(answer.headers, "x-session-set-cookie-" .. number)
            if cookie ~= "" then txn:set_var("txn.cookie_" .. number, cookie) end
        end
        txn:set_var("txn.session_judged", true)
    elseif answer.status >= 300 and answer.status < 500 or answer.status == 503 then
        deny(txn, answer.status, answer.headers, answer.body)
    else
        -- It is unknown who the user is, so the request does not pass, and the user is not signed
        -- out.
        deny(txn, 503, {
            ["content-type"] = {"application/json"},
            ["cache-control"] = {"no-store"},
            ["retry-after"] = {"1"},
        }, '{"error": "unavailable"}')
    end
end

core.register_action("session", {"http-req"}, session, 0)
