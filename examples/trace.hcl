# Replays a trace of submissions at twice its speed: serai sim run examples/trace.hcl
scenario "trace" {
  duration = "2m"
}

region "eu" {
  datacenter "paris" {
    servers = 1
    nodes "node" {
      count = 3
    }
  }
}
region "us" {
  datacenter "ohio" {
    servers = 1
    nodes "node" {
      count = 2
    }
  }
}

trace "yesterday" {
  file  = "trace.csv"
  job   = "sim-batch.nomad.hcl"
  from  = "10s"
  speed = 2
}

goal "acknowledged" {
  at_least = 6
}
goal "placed" {
  at_least = 13
}
goal "restarted" { # build-2 exits with code 1, and is tried again
  at_least = 1
}
goal "refused" {}
