-- Budgets over several keys, all or nothing, in one script. The rule and its units are in budgets.py.
-- KEYS: the store's beginning, the lease, then one key per charge.
-- ARGV: "reserve", the lease's life in ms, then per charge: pay, unit, burst, cost, settles (0 or 1)
--       "settle", tokens used
--       "new" (nothing was spent before now)
-- The time is that of this server. A server that is not the one the store began on (restarted, promoted, flushed) may
-- have forgotten: the store then begins anew, and every key owes a full burst as of that moment.
local time = redis.call('TIME')
local here = time[1] * 1000 + math.floor(time[2] / 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

local function whole(number) return string.format('%.0f', number) end

if ARGV[1] == 'new' then
  return redis.call('SET', KEYS[1], server .. ' 0 ' .. whole(here), 'NX') and 1 or 0
end

-- The beginning also holds the latest time seen: a clock that is set back stands still until it has caught up.
local now, began = here, nil
local held = redis.call('GET', KEYS[1])
if held then
  local at, since, latest = string.match(held, '^(%x+) (%d+) (%d+)$')
  if at == server then
    began = tonumber(since)
    now = math.max(here, tonumber(latest))
  end
end
began = began or now
redis.call('SET', KEYS[1], server .. ' ' .. whole(began) .. ' ' .. whole(now))

-- What a key owes now, in the units of the charge.
local function owed(key, pay, unit, burst)
  local debt, since = burst * unit, began
  local found = redis.call('GET', key)
  if found then
    local d, u, s, b = string.match(found, '^(%d+) (%d+) (%d+) (%d+)$')
    -- What was written before the store began anew may be older than what was spent, whatever the clocks said.
    if tonumber(b) == began then
      debt, since = tonumber(d), tonumber(s)
      -- A debt is in tokens and paid at today's rate; a policy that changes the rate changes what a token weighs.
      if tonumber(u) ~= unit then debt = math.ceil(debt / tonumber(u) * unit) end
    end
  end
  return math.max(0, debt - pay * math.max(0, now - since))
end

-- A key lives as long as it owes, by the clock that expires it.
local function hold(key, debt, pay, unit)
  local life = math.ceil(debt / pay) + now - here + 1
  redis.call('SET', key, whole(debt) .. ' ' .. whole(unit) .. ' ' .. whole(now) .. ' ' .. whole(began), 'PX', whole(life))
end

if ARGV[1] == 'reserve' then
  if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
  local n, waits, fits, debts, lease = #KEYS - 2, {}, true, {}, {whole(began)}
  for i = 1, n do
    local a = 5 * i - 2
    local pay, unit, burst, cost = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    debts[i] = owed(KEYS[i + 2], pay, unit, burst)
    local over = debts[i] + cost * unit - burst * unit
    if cost > burst then waits[i] = -1
    elseif over > 0 then waits[i] = math.ceil(over / pay)
    else waits[i] = 0 end
    fits = fits and waits[i] == 0
  end
  if not fits then return waits end
  for i = 1, n do
    local a = 5 * i - 2
    local pay, unit, cost = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 3])
    hold(KEYS[i + 2], debts[i] + cost * unit, pay, unit)
    if ARGV[a + 4] == '1' then
      lease[#lease + 1] = table.concat({KEYS[i + 2], ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]}, ' ')
    end
  end
  redis.call('SET', KEYS[2], table.concat(lease, '\n'), 'PX', ARGV[2])
  return 1
end

-- Settle: the lease says what was taken, and goes, so that nothing comes back twice.
local lease = redis.call('GET', KEYS[2])
if not lease then return 0 end
redis.call('DEL', KEYS[2])
local first = true
local is_mine = true
for line in string.gmatch(lease, '[^\n]+') do
  if first then
    first = false
    is_mine = tonumber(line) == began
  else
    local key, pay, unit, burst, cost = string.match(line, '^(%S+) (%d+) (%d+) (%d+) (%d+)$')
    pay, unit, burst, cost = tonumber(pay), tonumber(unit), tonumber(burst), tonumber(cost)
    local change = (tonumber(ARGV[2]) - cost) * unit
    -- What was taken before the store began anew is forgotten: none of it comes back.
    if is_mine or change > 0 then
      hold(key, math.max(0, owed(key, pay, unit, burst) + change), pay, unit)
    end
  end
end
return 1
