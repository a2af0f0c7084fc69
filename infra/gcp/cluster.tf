# Private nodes; network policies are enforced (Dataplane V2); pods have identities of their own.

resource "google_service_account" "nodes" {
  account_id   = "phenopipe-nodes"
  display_name = "Nodes of the cluster phenopipe: logs, metrics and images, not the lake"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset(["roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"])
  project  = var.project
  role     = each.value
  member   = google_service_account.nodes.member
}

resource "google_container_cluster" "this" {
  name                     = "phenopipe"
  location                 = var.region
  network                  = google_compute_network.this.id
  subnetwork               = google_compute_subnetwork.nodes.id
  remove_default_node_pool = true
  initial_node_count       = 1
  deletion_protection      = true
  datapath_provider        = "ADVANCED_DATAPATH"
  enable_shielded_nodes    = true
  # Policies and flow logs see pods of one node, too.
  enable_intranode_visibility = true
  resource_labels             = { application = "phenopipe" }

  # Of the pool that is removed at once; the cluster's own pools are below.
  node_config {
    service_account = google_service_account.nodes.email

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = true
    master_ipv4_cidr_block  = var.ranges.control
  }

  # Administrators come by the cluster's DNS name, which asks IAM for who they are; the control
  # plane has no public address. gcloud container clusters get-credentials --dns-endpoint
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
  }

  master_authorized_networks_config {}

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  addons_config {
    dns_cache_config {
      enabled = true
    }
  }

  gateway_api_config {
    channel = "CHANNEL_STANDARD"
  }

  release_channel {
    channel = "REGULAR"
  }

  # Not while the nightly runs.
  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T09:00:00Z"
      end_time   = "2026-01-03T17:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }

  lifecycle {
    ignore_changes = [node_config]
  }
}

locals {
  pools = {
    # The Prefect server, its services, the worker that starts jobs.
    system = { machine = "e2-standard-4", least = 1, most = 3, disk = 100 }
    # worker-cpu: one pod a node, with room for plates on their way.
    cpu = { machine = "n2-highmem-8", least = 0, most = 4, disk = 300 }
  }
}

resource "google_container_node_pool" "cpu" {
  for_each = local.pools
  name     = each.key
  cluster  = google_container_cluster.this.id

  autoscaling {
    total_min_node_count = each.value.least
    total_max_node_count = each.value.most
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = each.value.machine
    disk_size_gb    = each.value.disk
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }
}

# Spot: a third of the price, taken back with 30 seconds' notice. Embeddings publish their pieces
# every minute, so a preempted plate goes on where it was.
resource "google_container_node_pool" "gpu" {
  name               = "gpu-spot"
  cluster            = google_container_cluster.this.id
  node_locations     = var.gpu_zones
  initial_node_count = 0

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.gpus
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.gpu_machine
    spot            = true
    disk_size_gb    = 100
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    guest_accelerator {
      type  = var.gpu_type
      count = 1

      # CUDA 13 asks for driver 580 or newer.
      gpu_driver_installation_config {
        gpu_driver_version = "LATEST"
      }
    }

    # /scratch: a plate of 36 GB on its way to the bucket.
    ephemeral_storage_local_ssd_config {
      local_ssd_count = 1
    }

    # GKE adds nvidia.com/gpu=present:NoSchedule by itself.
    taint {
      key    = "cloud.google.com/gke-spot"
      value  = "true"
      effect = "NO_SCHEDULE"
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    # Secure boot would refuse a GPU driver that is not signed.
    shielded_instance_config {
      enable_secure_boot          = false
      enable_integrity_monitoring = true
    }
  }
}
