# Must fail: in the third hour an operator drains a whole region's nodes and stops its services.
extends "../steady-day.hcl" {}

scenario "steady-day-mistake" {}

fault "drain-all" {
  at     = "15m"
  for    = "20m"
  target = "r-1"
}
fault "stop-job" {
  at  = "16m"
  job = "base-r1*"
}
goal "running" {
  job = "base-r1"
  count = 40
  at  = "25m"
}
