job "store" {
  multiregion {
    strategy {
      max_parallel = 1
      on_failure   = "fail_all"
    }
    region "west" {
      count       = 2
      datacenters = ["west-1"]
      node_pool   = "edge"
      meta {
        tier = "gold"
      }
    }
    region "east" {
      datacenters = ["east-1", "east-2"]
    }
  }
  update {
    max_parallel = 0
  }
  group "store" {
    count = 0
    task "store" {
      driver = "docker"
      config {
        image = "store:1"
      }
    }
  }
}
