# eu/b is born late: what eu/a has is backed up in another region before. Then eu/a is lost for good.
scenario "lost" {
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
fault "power" {
  at     = "1s"
  for    = "30s"
  target = "eu/b"
}
fault "authority" {
  at     = "50s"
  target = "eu/b"
}
fault "datacenter-loss" {
  at     = "70s"
  for    = "80s"
  target = "eu/a, us"
}
fault "datacenter-off" {
  at     = "80s"
  target = "eu/a"
}
fault "adopt" {
  at     = "85s"
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
