# The authority of a region is lost for good: another datacenter succeeds it and adopts its jobs.
scenario "succession" {
  duration = "4m"
  settle   = "30s"
}
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "n" { count = 2 }
  }
  datacenter "b" {
    servers = 1
    nodes "n" { count = 2 }
  }
}
region "us" {
  datacenter "x" { servers = 1 }
}
job "left" {
  file       = "../../examples/scenarios/jobs/service.nomad.hcl"
  at         = "15s"
  region     = "eu"
  datacenter = "a"
}
fault "authority" {
  at     = "40s"
  target = "eu/a"
}
fault "datacenter-loss" {
  at     = "70s"
  for    = "80s"
  target = "eu/a"
}
call "Authority.Adopt" {
  at         = "80s"
  datacenter = "b"
  body       = jsonencode({ Datacenter = "a", Force = true })
}
fault "datacenter-off" {
  at     = "95s"
  target = "eu/a"
}
fault "adopt" {
  at     = "105s"
  target = "eu/a"
}
goal "running" {
  job   = "left"
  count = 3
  at    = "140s"
}
goal "running" {
  job   = "left"
  count = 3
}
