-- Lets a request through whose API key the route knows. What a route knows of a key stands in its metadata under the
-- SHA-256 of the key's text: {name, until?, is_refused?}. So it is the route that is guarded, not a path: whatever
-- spelling of a path leads to a route, the keys of that route decide. A route that says nothing is closed.

local bit = require("bit")
local band, bnot, bor, bxor = bit.band, bit.bnot, bit.bor, bit.bxor
local lshift, ror, rshift, tobit, tohex = bit.lshift, bit.ror, bit.rshift, bit.tobit, bit.tohex

local LONGEST = 55 -- bytes: the text and its padding are one block

-- FIPS 180-4, section 4.2.2
local ROUND = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

local words = {}

local function sha256(text)
  local length = #text
  for index = 0, 15 do words[index] = 0 end
  for index = 0, length - 1 do
    local word = rshift(index, 2)
    words[word] = bor(words[word], lshift(text:byte(index + 1), 24 - 8 * band(index, 3)))
  end
  local last = rshift(length, 2)
  words[last] = bor(words[last], lshift(0x80, 24 - 8 * band(length, 3)))
  words[15] = length * 8
  for index = 16, 63 do
    local early, late = words[index - 15], words[index - 2]
    local small = bxor(ror(early, 7), ror(early, 18), rshift(early, 3))
    local large = bxor(ror(late, 17), ror(late, 19), rshift(late, 10))
    words[index] = tobit(words[index - 16] + small + words[index - 7] + large)
  end
  local a, b, c, d = 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a
  local e, f, g, h = 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
  for index = 0, 63 do
    local choice = bxor(band(e, f), band(bnot(e), g))
    local first = tobit(h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + choice + ROUND[index + 1] + words[index])
    local majority = bxor(band(a, b), band(a, c), band(b, c))
    local second = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + majority)
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + first), c, b, a, tobit(first + second)
  end
  return tohex(tobit(a + 0x6a09e667)) .. tohex(tobit(b + 0xbb67ae85)) .. tohex(tobit(c + 0x3c6ef372))
    .. tohex(tobit(d + 0xa54ff53a)) .. tohex(tobit(e + 0x510e527f)) .. tohex(tobit(f + 0x9b05688c))
    .. tohex(tobit(g + 0x1f83d9ab)) .. tohex(tobit(h + 0x5be0cd19))
end

-- The status and the text of a refusal; nothing for a request that may go on. The key goes no further than here: what is
-- behind hears the name of who asks, never one that the caller made up.
local function refusal(handle)
  local route = handle:metadata()
  local headers = handle:headers()
  if route:get("is_open") then
    headers:remove("x-interlock-key")
    return
  end
  local shown = "x-api-key"
  local text = headers:get(shown)
  if not text then
    shown = "authorization"
    text = headers:get(shown)
    text = text and text:match("^[Bb]earer +([^ ]+)$")
  end
  local known = text and #text <= LONGEST and route:get(sha256(text))
  if not known or (known["until"] and os.time() > known["until"]) then
    headers:remove("x-interlock-key")
    return "401", "this takes an API key that holds here: authorization: Bearer KEY, or x-api-key: KEY"
  end
  headers:remove(shown)
  headers:replace("x-interlock-key", known["name"])
  if known["is_refused"] then
    return "403", "only a tester's API key may name the revision that answers"
  end
end

function envoy_on_request(handle)
  -- A script that fails is passed by: what cannot be checked is refused here.
  local has_looked, status, text = pcall(refusal, handle)
  if not has_looked then
    handle:logErr("an API key could not be checked: " .. tostring(status))
    handle:respond({[":status"] = "503"}, "API keys cannot be checked now")
  elseif status == "401" then
    handle:respond({[":status"] = status, ["www-authenticate"] = "Bearer"}, text)
  elseif status then
    handle:respond({[":status"] = status}, text)
  end
end
