Feature: A plan is followed as it is carried out
  A plan belongs to whom it was begun for. What happens in it comes to its owner at once, in order, and to nobody else;
  a stream of plans ends when its plans have.

  Background:
    Given a buyer ada
    And a buyer ben
    And an admin root

  Scenario Outline: what happens in a plan comes to its connected owner, over <transport>
    Given ada begins the plan chair
    And ada watches plan:chair over <transport>
    When the plan chair tells "comparing offers", makes "oak, 80 EUR", fails to reach a node, and completes
    Then ada receives, in this order
      | type                  |
      | PLAN_STATUS_UPDATED   |
      | PLAN_ARTIFACT_UPDATED |
      | PLAN_ERROR            |
      | PLAN_STATUS_UPDATED   |

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: who disconnects is unsubscribed, and nothing of them is kept
    Given ada begins the plan chair
    And nobody else is connected to the gateway
    When ada follows the plan chair
    Then the gateway counts 1 event stream, 1 reader of plans and 1 channel of plans
    When ada disconnects
    Then within a second the gateway counts 0 event streams, 0 readers of plans and 0 channels of plans

  Scenario: a stream filtered by plan_id brings that plan and no other
    Given ada begins the plan chair
    And ada begins the plan lamp
    When ada follows the plan chair
    And the plan lamp makes "a bulb"
    And the plan chair makes "a leg"
    Then the next that ada is told is "a leg"

  Scenario: several plans come in one stream, in the order in which things happen
    Given ada begins the plan chair
    And ada begins the plan lamp
    When ada follows the plans chair and lamp
    And the plan lamp makes "a bulb"
    And the plan chair makes "a leg"
    And the plan lamp makes "a shade"
    Then ada is told "a bulb", "a leg" and "a shade", in this order

  Scenario: when nothing happens the connection is kept alive, and its place moves on
    Given ada begins the plan chair
    When ada follows the plan chair
    And nothing happens in it for a while
    Then ada is sent a ping and a position
    When ada hangs up on the plan
    And the plan chair makes "a leg"
    And ada follows the plan chair from that position on
    Then the next that ada is told is "a leg"

  Scenario: after a drop the stream goes on where it stopped
    Given ada begins the plan chair
    When ada follows the plan chair
    And the plan chair makes "one leg"
    And ada is told "one leg"
    And the connection of ada drops
    And the plan chair makes "two legs"
    And the plan chair makes "three legs"
    And ada's client reconnects by itself
    And the plan chair makes "four legs"
    Then ada is told "two legs", "three legs" and "four legs", in this order

  Scenario: a stranger may follow a plan and sees nothing of it
    Given ada begins the plan chair
    And ben begins the plan rug
    When ben follows the plans chair and rug
    And the plan chair makes "a leg"
    And the plan rug makes "a fringe"
    Then the next that ben is told is "a fringe"

  Scenario: a stranger's ended plan is like one that never was
    Given ada begins the plan chair
    When the plan chair completes
    Then ben is told of the plan chair what is told of no plan

  Scenario: the stream of a plan ends with it, and who comes back is sent away
    Given ada begins the plan chair
    When ada follows the plan chair
    And the plan chair completes
    Then ada is told of the end, and the stream closes
    And ada's client comes back, is answered 204 and stops

  Scenario: who comes after the end is told how it ended
    Given ada begins the plan chair
    When the plan chair completes
    And ada follows the plan chair
    Then ada is told of the end, and the stream closes

  Scenario: an admin follows anybody's plan
    Given ada begins the plan chair
    When root follows the plan chair
    And the plan chair makes "a leg"
    Then the next that root is told is "a leg"
