job "api" {
  datacenters = ["eu-*", "us-east-1"]
  update {
    max_parallel      = 2
    canary            = 1
    min_healthy_time  = "30s"
    healthy_deadline  = "10m"
    progress_deadline = "15m"
    auto_revert       = true
    auto_promote      = true
    stagger           = "1m"
    health_check      = "task_states"
  }
  migrate {
    max_parallel     = 2
    min_healthy_time = "15s"
  }
  group "api" {
    count = 4
    update {
      canary = 2
    }
    shutdown_delay = "5s"
    network {
      mode     = "bridge"
      hostname = "api"
      port "http" {
        to = -1
      }
      dns {
        servers  = ["10.0.0.2", "1.1.1.1"]
        searches = ["service.consul"]
        options  = ["ndots:2"]
      }
    }
    service {
      port           = "http"
      canary_tags    = ["canary"]
      canary_meta {
        stage = "canary"
      }
      meta {
        version = "${NOMAD_META_version}"
      }
      enable_tag_override = true
      address_mode        = "alloc"
      on_update           = "ignore_warnings"
      check_restart {
        limit = 2
        ignore_warnings = true
      }
      check {
        name            = "http"
        type            = "http"
        protocol        = "https"
        tls_skip_verify = true
        path            = "/status"
        method          = "POST"
        body            = "{\"deep\": true}"
        interval        = "5s"
        timeout         = "1s"
        initial_status  = "passing"
        success_before_passing   = 2
        failures_before_critical = 3
        header {
          Authorization = ["Basic dXNlcg=="]
          Accept        = ["application/json", "text/plain"]
        }
        check_restart {
          limit = 5
        }
      }
      check {
        type     = "script"
        task     = "api"
        command  = "/bin/check"
        args     = ["-q"]
        interval = "60s"
        timeout  = "5s"
      }
      check {
        type         = "grpc"
        grpc_service = "health"
        grpc_use_tls = true
        interval     = "10s"
        timeout      = "2s"
      }
    }
    task "api" {
      driver = "docker"
      config {
        image = "api:2"
      }
      shutdown_delay = "3s"
    }
    task "log-shipper" {
      driver = "docker"
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }
      config {
        image = "shipper:1"
      }
      restart {
        attempts = 5
        mode     = "delay"
        render_templates = true
      }
    }
  }
}
