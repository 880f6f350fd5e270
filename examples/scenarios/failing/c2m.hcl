# Must fail: one region is asked for more than it has room for, and a goal says "all of it".
extends "../c2m.hcl" {}

scenario "c2m-too-much" {}

job "more" {
  file   = "../jobs/instance.nomad.hcl"
  at     = "60s"
  region = "r-1"
  count  = 50000
}
goal "running" {
  job = "more"
}
