-- How healthy an AlchemiscaleComputePool is, for Argo CD. It follows the pool's conditions:
-- Stalled needs a person, Ready False or Unknown otherwise passes by itself.

local function condition(kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, found in ipairs(obj.status.conditions) do
      if found.type == kind then
        return found
      end
    end
  end
  return {status = "Unknown", reason = "", message = ""}
end

local health = {status = "Progressing", message = "The operator has not looked at the pool yet."}

local ready = condition("Ready")
local stalled = condition("Stalled")
local seen = 0
if obj.status ~= nil and obj.status.observedGeneration ~= nil then
  seen = obj.status.observedGeneration
end

if seen < obj.metadata.generation then
  if seen > 0 then
    health.message = "The operator has not seen the latest change yet."
  end
elseif stalled.status == "True" then
  health.status = "Degraded"
  health.message = stalled.reason .. ": " .. stalled.message
elseif ready.status == "True" and ready.reason == "Suspended" then
  health.status = "Suspended"
  health.message = ready.message
elseif ready.status == "True" then
  health.status = "Healthy"
  health.message = ready.message
elseif ready.reason ~= "" then
  health.message = ready.reason .. ": " .. ready.message
end

return health
