Feature: Any A2A client follows a plan, and goes on where it was cut off
  The gateway is an A2A agent: a message begins a task, and the unmodified client of a2a-sdk is told what happens in it.

  Background:
    Given a buyer ada
    And a buyer ben

  Scenario Outline: a message begins a plan and its client is told everything, over <binding>
    Given ada has an A2A client of <binding>
    When ada asks for "200 hours of GPU time, at most 1500 EUR"
    Then ada is told of the task, of three offers and a plan made of them, and that it is completed

    Examples:
      | binding       |
      | JSONRPC 1.0   |
      | HTTP+JSON 1.0 |
      | JSONRPC 0.3   |

  Scenario Outline: who is cut off in the middle misses nothing and is told nothing twice, over <binding>
    Given ada has an A2A client of <binding>
    When ada asks for "a photo of each shelf, at most 90 EUR"
    And ada is cut off after 3 updates
    And ada's client subscribes again with its cursor
    Then the task that ada is told first is as ada knew it
    And ada has been told every event of the plan once, in order

    Examples:
      | binding       |
      | JSONRPC 1.0   |
      | HTTP+JSON 1.0 |
      | JSONRPC 0.3   |

  Scenario: a plan that needs to know something asks, and goes on when it is answered
    Given ada has an A2A client of JSONRPC 1.0
    When ada asks for "a desk"
    And ada is asked "What may it cost at most?"
    And ada answers "300 EUR"
    Then the same task is completed

  Scenario: a plan that is cancelled ends before its follower's eyes
    Given ada has an A2A client of HTTP+JSON 1.0
    When ada asks for "a desk"
    And ada is asked "What may it cost at most?"
    And ada cancels the plan
    Then ada is told that it is canceled, and the stream closes

  Scenario: who disconnects is unsubscribed, and nothing of them is kept
    Given ada has an A2A client of JSONRPC 1.0
    And nobody else is connected to the gateway
    When ada asks for "a desk"
    And ada is asked "What may it cost at most?"
    Then the gateway counts 1 A2A stream, 1 reader of plans and 1 channel of plans
    When ada's client is gone
    Then within a second the gateway counts 0 A2A streams, 0 readers of plans and 0 channels of plans

  Scenario: a stranger is told of a plan what is told of none
    Given ada has an A2A client of JSONRPC 1.0
    And ben has an A2A client of JSONRPC 1.0
    When ada asks for "a desk"
    Then ben is refused alike for the plan of ada and for one that never was, whatever ben asks

  Scenario: of a plan that has ended nothing is due to who has all of it
    Given ada has an A2A client of JSONRPC 1.0
    When ada asks for "200 hours of GPU time, at most 1500 EUR"
    And ada is told everything
    Then subscribing again is refused as UnsupportedOperation
    But with the cursor of the third update the rest is told again

  Scenario: a plan that has ended takes no further message
    Given ada has an A2A client of JSONRPC 1.0
    When ada asks for "200 hours of GPU time, at most 1500 EUR"
    And ada is told everything
    Then a further message of ada for the same task is refused as UnsupportedOperation
